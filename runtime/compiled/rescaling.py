"""The steps of a kernel as code does them: fixed-point rescaling in doubles where that is exact.

Where the ranges of a kernel's values prove that a product has fewer than 52 bits, a double holds it
exactly, and rescaling takes a few instructions instead of 64-bit arithmetic that vector units lack.
Sums of such results stay doubles; a value becomes an i32 again where something else needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

from npu_dialect import dtypes
from npu_dialect.kernel import Kernel, Step
from npu_dialect.runtime.compiled.affine import AFFINE, Affine, affine_steps
from npu_dialect.runtime.compiled.builder import Value
from npu_dialect.runtime.compiled.micro_ops import ROWS, Encoded, Scope, at_least, at_most, row
from npu_dialect.runtime.compiled.ranges import FULL, Range, ranges

EXACT = 1 << 51
"""Products below it, and halves of them, are exact in a double."""
MAGIC = 1.5 * 2.0**52
"""Added to a double below 2**51, it rounds to a whole number in the low bits of the sum."""
RESCALE, ADD, WHOLE = "rescale", "add.f64", "whole"
"""Steps that kernels do not have: doubles that hold whole numbers, and their way back to i32."""


@dataclass(frozen=True)
class CodeStep:
    """A step with the code's own numbering of values: tensors, params, results of these steps."""

    op: str
    args: tuple[int, ...]
    encoded: Encoded


def code_steps(kernel: Kernel) -> list[CodeStep]:
    """The steps to emit; the last one gives the kernel's result."""
    return _Steps(kernel).made


class _Steps:
    """Where the values of a kernel are while its steps are made."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.ranges = kernel, ranges(kernel)
        self.affine = affine_steps(kernel, self.ranges)
        self.inputs = len(kernel.tensors) + len(kernel.params)
        self.made: list[CodeStep] = []
        self.plain = {i: i for i in range(self.inputs)}
        """By the kernel's number, the code's number of a value in its own type, of one as a double.
        """
        self.wide: dict[int, int] = {}
        replaced = frozenset[int]().union(*(a.replaced for a in self.affine.values()))
        for number, step in enumerate(kernel.steps, self.inputs):
            if not step.op.startswith("const.") and number not in replaced:
                self._step(number, step)
        if kernel.steps:
            self._in_own_type(self.inputs + len(kernel.steps) - 1)

    def _step(self, number: int, step: Step) -> None:
        if number in self.affine:
            self.plain[number] = self._affine(self.affine[number])
            return
        factor = self._exact_factor(step)
        wide = [self.wide[a] for a in step.args if a in self.wide]
        if factor is not None:
            self.wide[number] = self._rescale(step, factor)
        elif step.op == "add.i32" and len(wide) == 2 and self.ranges[number] != FULL:
            self.wide[number] = self._make(ADD, tuple(wide), ("", []))
        else:
            args = tuple(map(self._in_own_type, step.args))
            self.plain[number] = self._make(step.op, args, ROWS[step.op].encode(*step.immediates))

    def _affine(self, found: Affine) -> int:
        args = tuple(map(self._in_own_type, found.operands))
        return self._make(AFFINE, args, ("", found.numbers))

    def _make(self, op: str, args: tuple[int, ...], encoded: Encoded) -> int:
        self.made.append(CodeStep(op, args, encoded))
        return self.inputs + len(self.made) - 1

    def _in_own_type(self, number: int) -> int:
        """The code's number of a value in its own type; constants come where they are needed."""
        found = self.plain.get(number)
        if found is None and number in self.wide:
            found = self._narrowed(number)
        elif found is None:
            step = self.kernel.steps[number - self.inputs]
            found = self._make(step.op, (), ROWS[step.op].encode(*step.immediates))
        self.plain[number] = found
        return found

    def _narrowed(self, number: int) -> int:
        """A double's i32. What rescales can give it at once; its double is dead if unused."""
        step = self.kernel.steps[number - self.inputs]
        factor = self._exact_factor(step)
        if factor is None:
            return self._make(WHOLE, (self.wide[number],), ("", [("f64", MAGIC)]))
        return self._rescale(step, factor, narrow=True)

    def _exact_factor(self, step: Step) -> float | None:
        """For a rescaling by a constant whose products are exact: what it multiplies by."""
        if step.op != "requantize.fixed" or step.immediates[0] not in ("half_even", "half_up"):
            return None
        x, multiplier, shift = (self.ranges[a] or FULL for a in step.args)
        if multiplier[0] != multiplier[1] or shift[0] != shift[1]:
            return None
        if _greatest(x, int(step.immediates[1])) * abs(multiplier[0]) >= EXACT:
            return None
        return multiplier[0] * 2.0 ** -shift[0]

    def _within(self, low: int, high: int, step: Step, factor: float) -> bool:
        """Whether no result can be outside of [low, high]; only looked at for those of an i32."""
        if (low, high) != FULL:
            return False
        zero_in, zero_out = int(step.immediates[1]), int(step.immediates[2])
        x = self.ranges[step.args[0]] or FULL
        return _greatest(x, zero_in) * abs(factor) + 1 + abs(zero_out) <= dtypes.i32.high

    def _rescale(self, step: Step, factor: float, *, narrow: bool = False) -> int:
        rounding, *whole = step.immediates
        zero_in, zero_out, low, high = (int(i) for i in whole)
        x = step.args[0]
        from_wide = x in self.wide
        source = self.wide[x] if from_wide else self._in_own_type(x)
        kind = "f64" if from_wide else "i32"
        numbers: list[tuple[str, int | float]] = [("f64", factor), ("f64", MAGIC)]
        form = [str(rounding), kind, "narrow" if narrow else "wide"]
        if zero_in:
            form.append("from")
            numbers.append((kind, zero_in))
        if not self._within(low, high, step, factor):
            form.append("clamped")
            numbers += [("f64", low - zero_out), ("f64", high - zero_out)]
        if zero_out:
            form.append("to")
            numbers.append(("i32" if narrow else "f64", zero_out))
        return self._make(RESCALE, (source,), (" ".join(form), numbers))


def _greatest(x: Range, zero: int) -> int:
    """The greatest magnitude of a difference; 2**31 where it may wrap."""
    ends = [end - zero for end in x]
    return max(map(abs, ends)) if all(FULL[0] <= e <= FULL[1] for e in ends) else 1 << 31


# --- code -----------------------------------------------------------------------------------------


@row(RESCALE)
def _rescale(s: Scope, form: str, immediates: list[Value], x: Value) -> Value:
    """clamp(round((x - zero_in) * factor) + zero_out, low, high), clamped first."""
    (factor, magic), numbers = immediates[:2], iter(immediates[2:])
    rounding, kind, width, *parts = form.split(" ")
    if "from" in parts:
        x = (s.b.sub if kind == "i32" else s.b.fsub)(x, next(numbers))
    if kind == "i32":
        x = s.b.sitofp(x, s.kind("f64"))
    real = s.b.fmul(x, factor)
    if rounding == "half_up":
        real = s.f.elementwise("floor", s.b.fadd(real, s.number("f64", 0.5)))
    if "clamped" in parts:
        real = at_least(s, real, next(numbers))
        real = at_most(s, real, next(numbers))
    shifted = s.b.fadd(real, magic)
    if width == "narrow":
        whole = s.b.trunc(s.b.bitcast(shifted, s.kind("i64")), s.kind("i32"))
        return s.b.add(whole, next(numbers)) if "to" in parts else whole
    whole = s.b.fsub(shifted, magic)
    return s.b.fadd(whole, next(numbers)) if "to" in parts else whole


@row(ADD)
def _add(s: Scope, form: str, immediates: list[Value], a: Value, b: Value) -> Value:
    return s.b.fadd(a, b)


@row(WHOLE)
def _whole(s: Scope, form: str, immediates: list[Value], x: Value) -> Value:
    bits = s.b.bitcast(s.b.fadd(x, immediates[0]), s.kind("i64"))
    return s.b.trunc(bits, s.kind("i32"))
