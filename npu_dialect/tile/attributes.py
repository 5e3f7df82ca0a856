"""Windows, the parts of buffers that loop indices select, and the type of copies in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ArrayAttr
from xdsl.ir import Attribute, Data, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

Term = tuple[int, int]
"""(number of a loop index, coefficient)."""


@dataclass(frozen=True)
class Window:
    """One dimension of a view: `size` elements from `start + sum(coefficients[k] * index[k])`,
    `step` apart.

    `step` may be negative. Trailing zero coefficients are dropped, so that equal windows compare
    equal.
    """

    start: int
    coefficients: tuple[int, ...]
    size: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a window must have at least one element, found size {self.size}")
        if self.step == 0:
            raise ValueError("a window's step must not be 0")
        kept = len(self.coefficients)
        while kept and self.coefficients[kept - 1] == 0:
            kept -= 1
        object.__setattr__(self, "coefficients", tuple(self.coefficients[:kept]))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The loop indices that take part, with their coefficients."""
        return tuple((k, c) for k, c in enumerate(self.coefficients) if c)

    def at(self, indices: Sequence[int]) -> int:
        """The first element before clamping, for these values of the loop indices."""
        return self.start + sum(c * i for c, i in zip(self.coefficients, indices, strict=False))

    def text(self, names: Sequence[str]) -> str:
        """The window as it is written: `%i * 8 - 1 : 10 : 2`, with `names` for the loop indices."""
        parts = [names[k] if c == 1 else f"{names[k]} * {c}" for k, c in self.terms]
        text = " + ".join(parts)
        if not parts:
            text = str(self.start)
        elif self.start:
            text += f" - {-self.start}" if self.start < 0 else f" + {self.start}"
        return f"{text} : {self.size}" + (f" : {self.step}" if self.step != 1 else "")

    def __str__(self) -> str:
        return self.text([f"d{k}" for k in range(len(self.coefficients))])


def clamp(start: int, size: int, step: int, bound: int) -> tuple[int, int, int]:
    """The part of a window that lies in [0, bound): (first element, extent, elements cut off before
    the first).

    The extent is 0, and the first element 0, where no part does.
    """
    if step == 1:
        cut = -start if start < 0 else 0
        last = min(size, bound - start)
    elif step > 0:
        cut = max(0, -(start // step))
        last = min(size, -((start - bound) // step))
    else:
        cut = max(0, -((bound - 1 - start) // -step))
        last = min(size, start // -step + 1)
    extent = last - cut
    return (start + cut * step, extent, cut) if extent > 0 else (0, 0, min(cut, size))


@irdl_attr_definition
class WindowAttr(Data[Window]):
    """`#tile.window<d0 * 8 - 1 : 10 : 1>`: start as an affine form of loop indices, size, step (1
    unless written).
    """

    name = "tile.window"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Window:
        with parser.in_angle_brackets():
            return parse_window(parser, lambda: _parse_dimension(parser))

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.data))


def _parse_dimension(parser: AttrParser) -> int | None:
    name = parser.parse_optional_identifier()
    if name is None:
        return None
    if name[0] != "d" or not name[1:].isdigit():
        parser.raise_error(f"a loop index must be written d0, d1, ..., found {name}")
    return int(name[1:])


def parse_window(parser: AttrParser, index: Callable[[], int | None]) -> Window:
    """The window that `Window.text` wrote; `index` reads a loop index and gives its number, None
    for anything else.
    """
    start, coefficients = 0, dict[int, int]()
    sign = -1 if parser.parse_optional_punctuation("-") else 1
    while True:
        number = index()
        if number is None:
            start += sign * parser.parse_integer(
                allow_boolean=False, context_msg=": a loop index or an integer"
            )
        else:
            factor = parser.parse_integer() if parser.parse_optional_punctuation("*") else 1
            coefficients[number] = coefficients.get(number, 0) + sign * factor
        if parser.parse_optional_punctuation("+"):
            sign = 1
        elif parser.parse_optional_punctuation("-"):
            sign = -1
        else:
            break
    parser.parse_punctuation(":")
    size = parser.parse_integer(allow_negative=False)
    step = parser.parse_integer() if parser.parse_optional_punctuation(":") else 1
    row = tuple(coefficients.get(k, 0) for k in range(max(coefficients, default=-1) + 1))
    try:
        return Window(start, row, size, step)
    except ValueError as error:
        parser.raise_error(str(error))


@dataclass(frozen=True)
class Span:
    """One dimension of a view, named by its loop indices: how Python code writes a window.

    `Span(10, start=-1, terms=[(i, 8)])` is `%i * 8 - 1 : 10`.
    """

    size: int
    start: int = 0
    terms: Sequence[tuple[SSAValue, int]] = ()
    step: int = 1


def windows_of(spans: Iterable[Span]) -> tuple[list[SSAValue], ArrayAttr[WindowAttr]]:
    """The loop indices that the spans use, each once, in order of appearance, and one window per
    span.
    """
    spans = list(spans)
    indices = list(dict.fromkeys(value for span in spans for value, _ in span.terms))
    windows: list[WindowAttr] = []
    for span in spans:
        row = [0] * len(indices)
        for value, coefficient in span.terms:
            row[indices.index(value)] += coefficient
        windows.append(WindowAttr(Window(span.start, tuple(row), span.size, span.step)))
    return indices, ArrayAttr(windows)


def spans_of(indices: Sequence[SSAValue], windows: Iterable[WindowAttr]) -> list[Span]:
    """The inverse of `windows_of`."""
    return [
        Span(w.data.size, w.data.start, [(indices[k], c) for k, c in w.data.terms], w.data.step)
        for w in windows
    ]


@irdl_attr_definition
class TokenType(ParametrizedAttribute, TypeAttribute):
    """`!tile.token`: a copy in flight."""

    name = "tile.token"


ATTRIBUTES: list[type[Attribute]] = [WindowAttr, TokenType]
