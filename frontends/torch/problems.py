"""What stands in the way of a model, grouped by cause, each with its place and what to change.

    control-flow: branches and loops must not depend on the values of tensors (2 places)
      try torch.where, or torch.cond for large branches
        gate          model.py:12   if x.sum() > 0:
        blocks.3.gate model.py:12   if x.sum() > 0:

`Refused` is the CompileError of a model with such problems: one record for each cause and reason.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from npu_dialect.diagnostics import Code, CompileError, Diagnostic
from npu_dialect.frontends.onnx.errors import one_line

MAX_NAMES = 3
"""Modules that a record names."""


@dataclass(frozen=True)
class Cause:
    """A usual reason why a model cannot be captured or imported."""

    name: str
    rule: str
    """What must hold."""
    remedy: str
    """What to change; `{op}` is the operator."""
    pattern: str = ""
    """What torch says where it is this one (a regular expression); "" for causes found here."""


CAUSES = (
    Cause(
        "missing-fake-kernel",
        "a custom operator must say which shape its result has",
        "torch.library.register_fake for {op}",
        r"[Nn]o fake impl registered|[Mm]issing fake kernel|MISSING_FAKE_KERNEL",
    ),
    Cause(
        "custom-op",
        "a custom operator must have a lowering",
        "one with @npu_dialect.frontends.torch.lowering({op}), see docs/torch.md",
    ),
    Cause(
        "data-dependent-shape",
        "the size of a tensor must not depend on values",
        "torch.where or a product with the mask instead of x[mask], topk of a fixed number instead "
        "of nonzero or unique",
        r"[Dd]ynamic shape operator|output shape depends on input|aten\.(nonzero|masked_select)",
    ),
    Cause(
        "control-flow",
        "branches and loops must not depend on the values of tensors",
        "torch.where, or torch.cond where a branch is large; a number of steps that is fixed",
        r"[Dd]ata-dependent branching|generic_jump|Could not guard on data-dependent expression",
    ),
    Cause(
        "item",
        "numbers of Python must not be computed from tensors",
        "the 0-d tensor itself instead of .item(), .tolist(), int() or float() of it; where it is "
        "an index or a size, an argument of the module, which is fixed when it is captured",
        r"\.item\(\)|\.tolist\(\)|[Tt]o_list|data-dependent expression|_local_scalar_dense",
    ),
    Cause(
        "numpy",
        "forward must compute with torch alone",
        "the function of torch instead of that of numpy",
        r"numpy",
    ),
    Cause(
        "shape-mismatch",
        "the shapes of operands must fit together",
        "example inputs with which the module runs by itself: module(*inputs)",
        r"must have same reduction dim|shapes cannot be multiplied|must match the size|"
        r"size mismatch|shape '.*' is invalid|expected input.* to have",
    ),
    Cause(
        "container",
        "inputs and outputs must be tensors, numbers, or containers that torch knows",
        "a tuple, a dictionary, or torch.export.register_dataclass for a class of your own",
        r"not a known type|unrecognized type|register a pytree|Unsupported input type|"
        r"pytree\.register",
    ),
    Cause(
        "arguments",
        "the example inputs must be those of forward",
        "compile(module, (x, y)), or a dictionary for keyword arguments",
        r"missing \d+ required|takes \d+ positional|unexpected keyword argument|"
        r"missing a required argument|too many positional arguments",
    ),
    Cause(
        "dynamic-shapes",
        "sizes that are stated as dynamic must be free",
        "the size without its entry in dynamic_shapes, or with the bounds that the message states",
        r"[Cc]onstraints? violat|marked .* as dynamic|dynamic_shapes|Dim\.DYNAMIC",
    ),
    Cause(
        "in-place-view",
        "a view whose elements share memory must not be written to",
        "a copy (x.clone()) before the line that writes",
        r"more than one element of the written-to tensor|[Cc]annot mutate|view.*inplace|"
        r"leaf Variable|in-place operation",
    ),
    Cause(
        "dtype",
        "a tensor must have a type that programs have: f16, bf16, f32, f64, integers or bool",
        "module.float(), dense tensors, and torch.view_as_real for complex numbers",
        r"[Ss]parse|quint8|qint8|[Cc]omplex",
    ),
    Cause(
        "python",
        "forward must be Python that torch can trace",
        "moving this out of forward: what depends on the inputs in tensors, the rest in __init__",
    ),
    Cause(
        "symbolic-shape",
        "the shape of every tensor must be known when compiling",
        "shapes={{...}} for an exported program, and buckets for a module; example inputs "
        "of one shape without dynamic_shapes",
    ),
    Cause(
        "random",
        "a program must give the same results each time",
        "the random tensor as an input",
    ),
    Cause(
        "loop",
        "a while_loop must have a number of steps that is known when compiling",
        "a counter that starts at a constant and is compared with one, or a for loop over a range",
    ),
    Cause(
        "operator",
        "{op} must be an operator that graph can express",
        "writing that line with other operators (docs/torch-operators.md lists those that import)",
    ),
)  # fmt: skip
"""The usual causes; for what torch says, the first that matches."""

_BY_NAME = {cause.name: cause for cause in CAUSES}
_CAPTURE = frozenset(c.name for c in CAUSES if c.pattern) - {"dtype"} | {"python"}


@dataclass(frozen=True)
class Problem:
    """One place of a model that cannot be compiled."""

    cause: str
    """The name of one of `CAUSES`."""
    op: str = ""
    """The operator of torch, "" where there is none."""
    reason: str = ""
    """What was found."""
    module: str = ""
    """The path of the module."""
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """`model.py:12`, or "" where it is not known."""
        return f"{self.file}:{self.line}" if self.file else ""

    @property
    def code(self) -> str:
        """The line of the user's code, "" where it is not known."""
        return linecache.getline(self.file, self.line).strip() if self.file else ""

    @property
    def rule(self) -> str:
        """What must hold."""
        return _BY_NAME[self.cause].rule.format(op=self.op or "the operator")

    @property
    def remedy(self) -> str:
        """What to change."""
        name = self.op if self.cause != "custom-op" else f'"{_qualified(self.op)}"'
        return _BY_NAME[self.cause].remedy.format(op=name or "it")

    @property
    def is_capture(self) -> bool:
        """Whether `torch.export` stopped here, and not the importer."""
        return self.cause in _CAPTURE


def _qualified(op: str) -> str:
    """`mylib::op` of `mylib.op.default`."""
    return "::".join(op.split(".")[:2])


def cause_of(text: str) -> str:
    """The cause of what torch says."""
    found = (c.name for c in CAUSES if c.pattern and re.search(c.pattern, text))
    return next(found, "python")


class Refused(CompileError):  # noqa: N818  (what users read is CompileError)
    """The error of a model that cannot be captured or imported, with all of its problems."""

    def __init__(self, model: str, problems: Iterable[Problem]) -> None:
        self.model = model
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__(*(_record(model, group) for group in _alike(self.problems)))

    def report(self) -> str:
        """The problems by cause, each with its module, its line and the user's code."""
        groups = _grouped(self.problems, lambda p: (p.cause, p.rule))
        counted = f"{_count(len(self.problems), 'problem')} of {_count(len(groups), 'cause')}"
        lines = [f"{self.model}: {counted}"]
        for group in groups:
            lines += ["", *_paragraph(group)]
        return "\n".join(lines)


def _grouped(
    problems: Sequence[Problem], key: Callable[[Problem], Hashable]
) -> list[list[Problem]]:
    """Problems with the same key together, in order of the first of each."""
    groups: dict[Hashable, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(key(problem), []).append(problem)
    return list(groups.values())


def _alike(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Problems that differ in their places only."""
    groups = _grouped(problems, lambda p: (p.cause, p.rule, p.reason))
    order = {name: k for k, name in enumerate(_BY_NAME)}
    return sorted(groups, key=lambda group: order[group[0].cause])


def _record(model: str, group: Sequence[Problem]) -> Diagnostic:
    first = group[0]
    names = list(dict.fromkeys(p.module for p in group if p.module)) or [model]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return Diagnostic(
        Code.CAPTURE if first.is_capture else Code.OPERATOR_UNSUPPORTED,
        first.rule,
        one_line(first.reason),
        first.remedy,
        ", ".join(names[:MAX_NAMES]) + more,
        ", ".join(dict.fromkeys(p.place for p in group[:MAX_NAMES] if p.place)),
    )


def _paragraph(group: Sequence[Problem]) -> list[str]:
    first = group[0]
    lines = [
        f"{first.cause}: {first.rule} ({_count(len(group), 'place')})",
        f"  try {first.remedy}",
    ]
    widths = [max(len(p.module) for p in group), max(len(p.place) for p in group)]
    for problem in group:
        where = f"{problem.module:{widths[0]}}  {problem.place:{widths[1]}}  {problem.code}"
        lines.append(f"    {where.strip() or 'the whole model'}")
        if problem.reason:
            lines.append(f"      found {one_line(problem.reason)}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
