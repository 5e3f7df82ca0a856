"""Native routines: emitted by Python as LLVM IR, compiled once per machine, kept on disk.

A routine is one function for a class of instructions, specialised by what its code depends on
(types, the steps of a kernel); sizes, strides and zero points are data that it reads from a record.
So programs share routines, and most are found compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from npu_dialect import cache as disk
from npu_dialect.runtime.compiled.host import Host, detect
from npu_dialect.runtime.compiled.llvm import VERSION, binding, ir

Spec = tuple[Any, ...]
"""What names a routine: the emitter's name, then its arguments, which print as they are."""

Emitter = Callable[..., None]
"""Adds a function to a module: emitter(module, symbol, host, *arguments)."""

EMITTERS: dict[str, Emitter] = {}
"""Emitters by name."""

CACHE_VARIABLE = disk.FOLDER_VARIABLE
FOLDER = "routines"


def emitter(name: str) -> Callable[[Emitter], Emitter]:
    """Decorator: registers the emitter of the routines called `name`."""

    def register(function: Emitter) -> Emitter:
        EMITTERS[name] = function
        return function

    return register


class Library:
    """The compiled routines of one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.addresses: dict[Spec, int] = {}
        self._engines: list[Any] = []
        self._machine: Any = None

    def load(self, specs: Iterable[Spec]) -> None:
        """Makes `addresses` hold these routines."""
        missing = [s for s in dict.fromkeys(specs) if s not in self.addresses]
        if not missing:
            return
        symbols = {spec: self._symbol(spec) for spec in missing}
        machine = self._target_machine()
        empty = binding.parse_assembly("")
        empty.triple = self.host.triple
        engine = binding.create_mcjit_compiler(empty, self.host.machine())
        for spec, symbol in symbols.items():
            data = _read(symbol)
            if data is None:
                data = self._compile(spec, symbol, machine)
                _write(symbol, data)
            engine.add_object_file(binding.ObjectFileRef.from_data(data))
        engine.finalize_object()
        self._engines.append(engine)
        for spec, symbol in symbols.items():
            self.addresses[spec] = engine.get_function_address(symbol)

    def ir(self, spec: Spec) -> str:
        """The LLVM IR of a routine."""
        symbol = self._symbol(spec)
        module = ir.Module(name=symbol)
        module.triple = self.host.triple
        EMITTERS[spec[0]](module, symbol, self.host, *spec[1:])
        return str(module)

    def assembly(self, spec: Spec) -> str:
        """The machine code of a routine, as text."""
        return self._target_machine().emit_assembly(self._parse(spec))

    def _compile(self, spec: Spec, symbol: str, machine: Any) -> bytes:
        return machine.emit_object(self._parse(spec))

    def _parse(self, spec: Spec) -> Any:
        module = binding.parse_assembly(self.ir(spec))
        module.verify()
        return module

    def _target_machine(self) -> Any:
        if self._machine is None:
            self._machine = self.host.machine()
        return self._machine

    def _symbol(self, spec: Spec) -> str:
        text = "\n".join((version(), repr(self.host), repr(spec)))
        return "npu_" + hashlib.sha256(text.encode()).hexdigest()[:40]


@cache
def library(host: Host | None = None) -> Library:
    """The process's library for a host (default: `host.detect()`)."""
    return Library(host or detect())


@cache
def version() -> str:
    """Changes with the emitters, and with LLVM."""
    digest = hashlib.sha256(VERSION.encode())
    for path in sorted(Path(__file__).parent.glob("**/*.py")):
        digest.update(path.read_bytes())
    from npu_dialect.numerics import coefficients, transcendental

    for module in (coefficients, transcendental):
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


# --- the disk -------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled routines are kept."""
    return disk.folder(FOLDER)


def _read(symbol: str) -> bytes | None:
    """A kept routine; None where there is none, or one that is not whole."""
    return disk.read(FOLDER, f"{symbol}.o")


def _write(symbol: str, code: bytes) -> None:
    """Keeps a routine."""
    disk.write(FOLDER, f"{symbol}.o", code)
