"""The states of a session, as the user reads and sets them.

session.state["h"]                  # a copy of what the last run left
session.state["h"] = array
session.reset()                     # the contents before the first run
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace

import numpy as np

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.machine import Array, Machine
from npu_dialect.ports import bind
from npu_dialect.runtime.program import StateBinding


class States(MutableMapping[str, Array]):
    """The contents of a program's states by name, in storage values, on one machine.

    Reading gives a copy. Raises CompileError (NPU0501 to NPU0503) for a name that no state has, and
    for an array of another shape or type.
    """

    def __init__(self, bindings: tuple[StateBinding, ...], machine: Machine) -> None:
        self._bindings = {b.name: b for b in bindings}
        self._machine = machine

    def reset(self, names: tuple[str, ...] = ()) -> None:
        """Give these states, or all, the content that they have before the first run."""
        for binding in [self._find(name) for name in names or self._bindings]:
            self._write(binding, binding.content)

    def __getitem__(self, name: str) -> Array:
        binding = self._find(name)
        return self._machine.view(binding.operand).reshape(binding.shape).copy()

    def __setitem__(self, name: str, array: Array) -> None:
        binding = self._find(name)
        (checked,) = bind([binding], {name: array})
        self._write(binding, checked)

    def __delitem__(self, name: str) -> None:
        raise error(
            Code.OPTION,
            "a program's states must stay",
            found=f"del of {name}",
            remedy=f'session.reset("{name}")',
            source="state",
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._bindings)

    def __len__(self) -> int:
        return len(self._bindings)

    def __contains__(self, name: object) -> bool:
        return name in self._bindings

    def set_initial(self, contents: Mapping[str, Array]) -> None:
        """Set several at once, after a check of all, now and at every `reset`."""
        arrays = {n: bind([self._find(n)], {n: a})[0].copy() for n, a in contents.items()}
        for name, array in arrays.items():
            self._bindings[name] = replace(self._bindings[name], initial=array)
        if arrays:
            self.reset(tuple(arrays))

    def _write(self, binding: StateBinding, array: Array) -> None:
        np.copyto(self._machine.view(binding.operand), array.reshape(binding.operand.dims))

    def _find(self, name: str) -> StateBinding:
        if name not in self._bindings:
            raise self._unknown(name)
        return self._bindings[name]

    def _unknown(self, name: str) -> CompileError:
        known = ", ".join(self._bindings) or "none"
        rule = f"a state must be one of the program's ({known})"
        return error(Code.INPUT_NAMES, rule, found=name, source="state")
