"""The compiler and its simulator as a backend of `torch.compile`.

    fast = torch.compile(model, backend="npu", options={"target": "mobile4k"})
    with torch.no_grad():
        y = fast(x)
    print(npu_dialect.torch_backend.report())

Dynamo cuts the model into graphs where Python must decide. Of each graph, what imports is
compiled, with parameters as constants, and torch runs the rest; a warning says what that is and
which bytes go there. Programs have fixed shapes: there is one for each combination of them, made
when it is needed. A parameter that has been changed since is compiled again; buffers and inputs
that the graph changes are changed. Results carry no gradients.
"""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect import api
from npu_dialect.diagnostics import Code, CompileError, error, warn
from npu_dialect.frontends.torch.package import torch
from npu_dialect.frontends.torch.problems import Problem, Refused
from npu_dialect.pipeline import Options
from npu_dialect.runtime.simulator import TIERS, Session

if TYPE_CHECKING:
    from npu_dialect.frontends.torch.partition import Parts
    from npu_dialect.runtime.program import PlacedOp, Program

DEFAULT_TARGET = "mobile4k"

EXPECTED = {
    "target": "a name or the path of a target file",
    "strict": "True or False",
    "tier": f"one of {', '.join(TIERS)}",
}

OPTIONS = tuple(EXPECTED)

KEPT_REPORTS = 64


@dataclass(frozen=True)
class Settings:
    """The options of `torch.compile(model, backend="npu", options={...})`."""

    target: str = DEFAULT_TARGET
    """A name, or the path of a target file."""
    strict: bool = False
    """Whether work for torch is an error (NPU0109, NPU0110)."""
    tier: str = "auto"
    """The tier of the simulator."""


@dataclass(frozen=True)
class InTorch:
    """An operator that torch runs, and what it costs."""

    op: str
    problem: Problem | None
    """Why, where that is known; None for what only serves such operators."""
    read: int
    """Bytes of the tensors that it takes."""
    written: int
    """Bytes of those that it gives."""


@dataclass
class Subgraph:
    """A graph of Dynamo, for one combination of shapes."""

    shapes: Sequence[Any]
    """Of its arguments: shapes of tensors, and numbers."""
    programs: Mapping[str, Program]
    """By name of the part."""
    nodes: Mapping[str, int]
    """The operators of ATen in each part."""
    in_torch: Sequence[InTorch]
    refusal: str = ""
    """Why torch runs all of it, if it does."""
    runs: int = 0

    @property
    def cycles(self) -> int:
        """Of one run of all parts on the NPU."""
        return sum(program.profile.cycles for program in self.programs.values())

    @property
    def on_host(self) -> list[PlacedOp]:
        """What the host does within programs."""
        placed = [row for program in self.programs.values() for row in program.placement]
        return [row for row in placed if row.engine == "host"]

    @property
    def bytes_moved(self) -> int:
        """That torch, and the host within programs, read and write in a run."""
        left = sum(op.read + op.written for op in self.in_torch)
        return left + sum(map(_host_bytes, self.programs.values()))

    def __str__(self) -> str:
        if self.refusal:
            return f"all in torch: {self.refusal}"
        ops = sum(self.nodes.values())
        lines = [f"{len(self.programs)} programs of {ops} operators, {self.cycles:,} cycles; "
                 f"{len(self.in_torch)} operators in torch, {len(self.on_host)} on the host, "
                 f"{self.bytes_moved:,} bytes; {self.runs} runs"]  # fmt: skip
        lines += [f"  {row.source}: {row.op} on the host: {row.reason}" for row in self.on_host]
        for op in self.in_torch:
            where = f"{op.problem.module or 'forward'} ({op.problem.place}): " if op.problem else ""
            why = f": {op.problem.reason}" if op.problem else ""
            lines.append(f"  {where}{op.op}{why}; {op.read:,} bytes read, {op.written:,} written")
        return "\n".join(lines)


subgraphs: deque[Subgraph] = deque(maxlen=KEPT_REPORTS)
"""The latest graphs that were compiled, oldest first."""


def report() -> str:
    """What was compiled in this process, and what torch runs of it, in lines."""
    return "\n".join(f"graph {k}: {each}" for k, each in enumerate(subgraphs))


def npu(
    graph_module: Any,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    **others: Any,
) -> Compiled:
    """The backend, which Dynamo calls for each of its graphs; registered as `npu`.

    Raises CompileError (NPU0004) for an option that it does not have.
    """
    return Compiled(graph_module, example_inputs, _settings(options or {}, others))


def _settings(options: Mapping[str, Any], others: Mapping[str, Any]) -> Settings:
    unknown = [*(options.keys() - set(OPTIONS)), *others]
    if unknown:
        raise error(
            Code.OPTION,
            f"the options of the backend must be among {', '.join(OPTIONS)}",
            found=", ".join(unknown),
            remedy='options={"target": "mobile4k", "strict": True}',
            source="torch.compile",
        )
    settings = Settings(**options)
    kinds = {"target": (str, Path), "strict": (bool,), "tier": (str,)}
    for name, kind in kinds.items():
        value = getattr(settings, name)
        if not isinstance(value, kind) or (name == "tier" and value not in TIERS):
            rule = f"{name} must be {EXPECTED[name]}"
            raise error(Code.OPTION, rule, found=repr(value), source="torch.compile")
    api.find_target(settings.target)
    return settings


Version = tuple[int, int, int]
"""Where the elements of a tensor lie, how often they were written, and their checksum."""


@dataclass
class _Ready:
    """A graph that is compiled for one combination of shapes."""

    parts: Parts | None
    """None where torch runs all of it."""
    sessions: dict[str, _Sessions]
    versions: dict[int, Version]
    """Of the arguments that are constants of the programs."""
    summary: Subgraph


@dataclass
class _Sessions:
    """The sessions of a program; one for each thread that runs at the same time."""

    program: Program
    arguments: Sequence[str]
    """The names of the arguments, of which the constants are no inputs of the program."""
    tier: str
    idle: list[Session] = field(default_factory=list[Session])

    def run(self, operands: Sequence[Any]) -> list[Any]:
        """The outputs in order, of tensors in the order of the arguments."""
        from npu_dialect.frontends.torch.builder import array_of

        ports = {port.name for port in self.program.inputs}
        named = zip(self.arguments, operands, strict=True)
        arrays = {name: array_of(x) for name, x in named if name in ports}
        try:
            session = self.idle.pop()
        except IndexError:
            session = Session(self.program, tier=self.tier)
        found = list(session.run(arrays).outputs.values())
        self.idle.append(session)
        return [_tensor_of(x) for x in found]


class Compiled:
    """A graph of Dynamo as a function of its arguments, in parts on the NPU. Safe for threads."""

    def __init__(
        self, graph_module: Any, example_inputs: Sequence[Any], settings: Settings
    ) -> None:
        self.graph_module = graph_module
        self.settings = settings
        self._static = [k for k, x in enumerate(example_inputs) if _is_static(x)]
        self._ready: dict[Any, _Ready] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        """The results of the graph, as torch tensors without gradients."""
        ready = self._for(args)
        ready.summary.runs += 1
        with torch().no_grad():
            if ready.parts is None:
                return self.graph_module(*args)
            return _run(ready.parts, ready.sessions, args)

    def _for(self, args: Sequence[Any]) -> _Ready:
        key = tuple(_shape(x) for x in args)
        if ready := self._current(key, args):
            return ready
        with self._lock:
            ready = self._current(key, args)
            if ready is None:
                ready = self._ready[key] = self._compiled(key, args)
                subgraphs.append(ready.summary)
        return ready

    def _current(self, key: Sequence[Any], args: Sequence[Any]) -> _Ready | None:
        """What is compiled for these shapes, unless a constant of it has changed since."""
        ready = self._ready.get(key)
        if ready is None or any(_version(args[k]) != v for k, v in ready.versions.items()):
            return None
        return ready

    def _compiled(self, key: Sequence[Any], args: Sequence[Any]) -> _Ready:
        from npu_dialect.frontends.torch import partition

        _warn_of_gradients(args)
        try:
            parts = partition.split(self.graph_module, args, self._static)
        except Exception as why:
            return self._refused(key, why)
        changed = set(parts.changed.values())
        versions = {k: _version(args[k]) for k in self._static if k not in changed}
        in_torch = _in_torch(parts)
        if self.settings.strict and in_torch:
            raise Refused("torch.compile", parts.problems)
        tier = self.settings.tier
        sessions = {p.name: _Sessions(self._program(p.module), p.inputs, tier)
                    for p in parts.compiled}  # fmt: skip
        programs = {name: each.program for name, each in sessions.items()}
        nodes = {p.name: p.nodes for p in parts.compiled}
        summary = Subgraph(key, programs, nodes, in_torch)
        if self.settings.strict and summary.on_host:
            raise _needs_host(summary)
        if in_torch or summary.on_host:
            _warn_of_torch(summary)
        return _Ready(parts, sessions, versions, summary)

    def _program(self, module: Any) -> Program:
        api.set_target(module, self.settings.target)
        api.lower(module, options=Options(reproducer=None))
        return api.assemble(module)

    def _refused(self, key: Sequence[Any], why: Exception) -> _Ready:
        text = " ".join(f"{type(why).__name__}: {why}".split())[:240]
        if self.settings.strict:
            raise why if isinstance(why, CompileError) else error(
                Code.CAPTURE,
                "torch.export must be able to capture a graph of Dynamo",
                found=text,
                remedy="strict=False, which leaves the graph to torch",
                source="torch.compile",
            ) from why  # fmt: skip
        warn(
            Code.IN_TORCH,
            "a graph of Dynamo must be one that imports",
            found=text,
            remedy="npu.compile(module, inputs), whose report says more",
            source="torch.compile",
        )
        return _Ready(None, {}, {}, Subgraph(key, {}, {}, (), text))


def _run(parts: Parts, sessions: Mapping[str, _Sessions], args: Sequence[Any]) -> list[Any]:
    """The results; what the graph changes is written back."""
    given = [args[s] if isinstance(s, int) else s for s in parts.sources]
    values: dict[Any, Any] = {}
    results: list[Any] = []
    for node in parts.module.graph.nodes:
        if node.op == "placeholder":
            values[node] = given.pop(0)
        elif node.op == "get_attr":
            values[node] = getattr(parts.module, str(node.target))
        elif node.op == "call_module":
            found = sessions[str(node.target)].run([values[n] for n in node.args])
            is_one = isinstance(node.meta.get("val"), torch().Tensor)
            values[node] = found[0] if is_one else found
        elif node.op == "call_function":
            mapped = torch().fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*mapped[0], **mapped[1])
        else:
            results = list(torch().fx.node.map_arg(node.args[0], values.__getitem__))
    results = _own(results, [*args, *parts.sources])
    for k, number in parts.changed.items():
        args[number].copy_(results[k])
    return [results[k] for k in parts.results]


def _own(results: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Results in memory of their own: copies are left out of graphs, arguments are written to
    afterwards, and callers may write to results.
    """
    taken = {_storage(x) for x in given} - {None}
    return [x.clone() if _storage(x) in taken else x for x in results]


def _storage(x: Any) -> int | None:
    is_plain = isinstance(x, torch().Tensor) and x.layout is torch().strided
    return x.untyped_storage().data_ptr() if is_plain else None


def _tensor_of(array: Any) -> Any:
    if array.dtype.name == "bfloat16":
        return torch().from_numpy(array.view("int16").copy()).view(torch().bfloat16)
    return torch().from_numpy(array.copy())


def _in_torch(parts: Parts) -> list[InTorch]:
    why = {(p.op, p.module, p.place): p for p in parts.problems}
    by_op = {p.op: p for p in parts.problems}
    from npu_dialect.frontends.torch import locations

    found: list[InTorch] = []
    for node in parts.kept:
        name = str(node.target)
        here = (name, locations.module_path(node), locations.written(node))
        written = _bytes(node.meta.get("val"))
        read = sum(_bytes(n.meta.get("val")) for n in node.all_input_nodes)
        found.append(InTorch(name, why.get(here) or by_op.get(name), read, written))
    return found


def _bytes(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))  # pyright: ignore
    is_fixed = isinstance(value, torch().Tensor) and all(isinstance(d, int) for d in value.shape)
    return value.numel() * value.element_size() if is_fixed else 0


def _warn_of_torch(summary: Subgraph) -> None:
    hosted = summary.on_host
    names = list(dict.fromkeys(op.op for op in summary.in_torch if op.problem))
    names += dict.fromkeys(row.source for row in hosted)
    places = [op.problem for op in summary.in_torch if op.problem]
    sources = [*(problem.module for problem in places), *(row.source for row in hosted)]
    warn(
        Code.IN_TORCH,
        "operators of a graph of Dynamo must be ones that the NPU runs, and torch or the host runs "
        "the others",
        found=f"{', '.join(names)}: {len(summary.in_torch) + len(hosted)} operators, "
        f"{summary.bytes_moved:,} bytes read and written by the host in each run",
        remedy=places[0].remedy if places else "",
        source=", ".join(dict.fromkeys(filter(None, sources))) or "torch.compile",
        location=places[0].place if places else "",
    )


def _needs_host(summary: Subgraph) -> CompileError:
    first, *others = summary.on_host
    return error(
        Code.HOST_NEEDED,
        "with strict, nothing may run on the host",
        found=f"{first.op}: {first.reason}" + (f", and {len(others)} more" if others else ""),
        remedy="strict=False",
        source=first.source,
    )


def _host_bytes(program: Program) -> int:
    """What the host's instructions of a program touch in dram."""
    pairs = zip(program.profile.costs, program.executed, strict=True)
    costs = [cost for cost, (_, op) in pairs if op.engine == "host"]
    return sum(c.reads.get("dram", 0) + c.writes.get("dram", 0) for c in costs)


def _warn_of_gradients(args: Sequence[Any]) -> None:
    tensor = torch().Tensor
    wanted = torch().is_grad_enabled()
    if wanted and any(isinstance(x, tensor) and x.requires_grad for x in args):
        warn(
            Code.APPROXIMATION,
            "programs are for inference: their results carry no gradients",
            found="a call with gradients enabled",
            remedy="torch.no_grad() around it",
            source="torch.compile",
        )


def _is_static(x: Any) -> bool:
    """A parameter, or a buffer: Dynamo marks it."""
    tensor = torch().Tensor
    if not isinstance(x, tensor):
        return False
    return isinstance(x, torch().nn.Parameter) or hasattr(x, "_dynamo_static_input_type")


def _shape(x: Any) -> Any:
    if isinstance(x, torch().Tensor):
        return tuple(int(d) for d in x.shape), str(x.dtype)
    return int(x) if isinstance(x, torch().SymInt) else x


def _version(x: Any) -> Version:
    """Torch counts no writes through `.data`, from numpy, or in inference mode: bytes are read."""
    return x.data_ptr(), 0 if x.is_inference() else x._version, _checksum(x)


def _checksum(x: Any) -> int:
    if x.layout is not torch().strided:
        return 0
    flat = x.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch().uint8).numpy())
