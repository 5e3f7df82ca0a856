"""Symbols in the place of numpy arrays: a function of arrays that is called on them adds the code
that computes it, operation by operation.

A symbol stands for a vector of doubles, 64-bit integers or truth values. numpy hands its operators
and functions over to it (`__array_ufunc__`, `__array_function__`); what is missing here raises
TypeError. Like an array, a symbol changes in place; unlike an array's, its views are copies.
`mask.all()` is false and `mask.any()` is true, so that a function takes its most general path, but
`x[mask]` begins code that is skipped where no lane of the mask is set, and the assignment of its
result, `y[mask] = ...`, ends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from npu_dialect.machine import Array
from npu_dialect.runtime.compiled.builder import F64, I1, I32, I64, Function, Value, vector
from npu_dialect.runtime.compiled.llvm import ir

DOUBLE, TRUTH = np.dtype(np.float64), np.dtype(np.bool)
ELEMENT = {"f": F64, "i": I64, "u": I64, "b": I1}
"""The type of elements by the kind of their dtype."""

_WHOLE = 2.0**52
"""Doubles from here on are whole numbers."""
_UNLIKELY = [1, 1000]
"""Weights of a branch's two ways."""


@dataclass
class _Branch:
    """Code for some lanes only, of which the last instruction, once it is there, is `leave`."""

    mask: Symbol
    """Kept, so that no other symbol has its identity."""
    before: Any
    after: Any
    leave: Any = None


class Trace:
    """The function that is added to, and the branches taken so far by the mask they depend on."""

    def __init__(self, f: Function) -> None:
        self.f = f
        self._branches: dict[int, _Branch] = {}

    def symbol(self, value: Value) -> Symbol:
        """A symbol for a vector of doubles that was computed elsewhere."""
        return Symbol(self, value, DOUBLE)

    def enter(self, mask: Symbol) -> None:
        """Begins code that is left out unless the mask has a lane."""
        if id(mask) in self._branches:
            raise TypeError("a mask begins one branch only")
        b = self.f.b
        some = self.f.intrinsic(f"llvm.vector.reduce.or.v{mask.lanes}i1", I1, [mask.value])
        inside, after = b.append_basic_block("some"), b.append_basic_block("all")
        self._branches[id(mask)] = _Branch(mask, b.block, after)
        b.cbranch(some, inside, after).set_weights(_UNLIKELY)
        b.position_at_end(inside)

    def merge(self, mask: Symbol, old: Value, new: Value) -> Value:
        """`new` where the mask holds, else `old`. Ends the code that the mask began; of several
        merges that follow one another, the first does.
        """
        b = self.f.b
        branch = self._branches.get(id(mask))
        if branch is None:
            return b.select(mask.value, new, old)
        if branch.leave is None:
            branch.leave = b.branch(branch.after)
        b.position_before(branch.leave)
        chosen, inside = b.select(mask.value, new, old), b.block
        b.position_at_start(branch.after)
        result = b.phi(old.type)
        result.add_incoming(old, branch.before)
        result.add_incoming(chosen, inside)
        b.position_at_end(branch.after)
        return result


class Symbol(NDArrayOperatorsMixin):
    """A vector that is being computed."""

    def __init__(self, trace: Trace, value: Value, dtype: np.dtype[Any]) -> None:
        self.trace, self.value, self.dtype = trace, value, dtype

    @property
    def lanes(self) -> int:
        """How many elements it has."""
        return self.value.type.count

    def __array_ufunc__(
        self,
        ufunc: np.ufunc,
        method: str,
        *inputs: Any,
        out: tuple[Symbol, ...] | None = None,
        where: Any = True,
    ) -> Symbol:
        lowering = UFUNCS.get(ufunc)
        if lowering is None or method != "__call__":
            raise TypeError(f"no code for numpy's {ufunc.__name__}")
        result = lowering(*self.operands(inputs))
        if out is None:
            return result
        (target,) = out
        target.replace(result if where is True else _select(where, result, target))
        return target

    def __array_function__(
        self, function: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Symbol:
        lowering = FUNCTIONS.get(function)
        if lowering is None or kwargs:
            raise TypeError(f"no code for numpy's {function.__name__}")
        return lowering(*args)

    def operands(self, inputs: Sequence[Any]) -> list[Symbol]:
        """Symbols of one type; numbers take the type of the symbols beside them."""
        dtypes = list({x.dtype: None for x in inputs if isinstance(x, Symbol)})
        if len(dtypes) != 1:
            raise TypeError(f"operands must have one type, found {' and '.join(map(str, dtypes))}")
        return [x if isinstance(x, Symbol) else self.constant(x, dtypes[0]) for x in inputs]

    def constant(self, number: Any, dtype: np.dtype[Any]) -> Symbol:
        """A number in every lane."""
        converted = float(number) if dtype.kind == "f" else int(number)
        return self.like(self.trace.f.constant(ELEMENT[dtype.kind], converted, self.lanes), dtype)

    def like(self, value: Value, dtype: np.dtype[Any] | None = None) -> Symbol:
        """Another symbol, of this one's type unless stated."""
        return Symbol(self.trace, value, dtype or self.dtype)

    def replace(self, new: Symbol) -> None:
        """Changes in place."""
        if new.dtype != self.dtype:
            raise TypeError(f"{new.dtype} assigned to {self.dtype}")
        self.value = new.value

    def view(self, dtype: Any) -> Symbol:
        """The same bits as elements of another type."""
        to = np.dtype(dtype)
        return self.like(self.trace.f.b.bitcast(self.value, self.vector_of(to)), to)

    def astype(self, dtype: Any) -> Symbol:
        """The same numbers as elements of another type; not from doubles."""
        to, b = np.dtype(dtype), self.trace.f.b
        if self.dtype.kind not in "iu":
            raise TypeError(f"no code for a conversion of {self.dtype}")
        if to.kind == "f":
            convert = b.sitofp if self.dtype.kind == "i" else b.uitofp
            return self.like(convert(self.value, self.vector_of(to)), to)
        return self.like(self.value, to)

    def vector_of(self, dtype: np.dtype[Any]) -> Any:
        """The type of a vector of other elements with as many lanes."""
        return vector(ELEMENT[dtype.kind], self.lanes)

    def any(self) -> bool:
        """Taken to be so."""
        return True

    def all(self) -> bool:
        """Taken not to be so."""
        return False

    def __getitem__(self, mask: Symbol) -> Symbol:
        self.trace.enter(mask)
        return self.like(self.value)

    def __setitem__(self, mask: Symbol, new: Any) -> None:
        _, new = self.operands([self, new])
        self.replace(self.like(self.trace.merge(mask, self.value, new.value)))

    def choose(self, table: Array) -> Symbol:
        """table[self]. Lanes that lie outside the table read its first number."""
        f, b = self.trace.f, self.trace.f.b
        numbers = _table(f, table)
        size = f.constant(I64, len(table), self.lanes)
        inside = b.icmp_unsigned("<", self.value, size)
        index = b.select(inside, self.value, f.constant(I64, 0, self.lanes))
        result = ir.Constant(vector(I64, self.lanes), ir.Undefined)
        for lane in map(I32, range(self.lanes)):
            number = f.load(I64, numbers, f.mul(b.extract_element(index, lane), 8))
            result = b.insert_element(result, number, lane)
        return self.like(result, table.dtype)


def _table(f: Function, table: Array) -> Value:
    """The numbers as a constant of the module, once."""
    name = "table_" + hashlib.sha256(table.tobytes()).hexdigest()[:16]
    found = f.module.globals.get(name)
    if found is None:
        kind = ir.ArrayType(I64, len(table))
        found = ir.GlobalVariable(f.module, kind, name)
        found.linkage, found.global_constant, found.align = "internal", True, 64
        found.initializer = ir.Constant(kind, [int(n) for n in table])
    return found


Lowering = Callable[..., Symbol]


def _binary(**names: str) -> Lowering:
    """An operation of the builder by the kind of the operands."""

    def lower(a: Symbol, b: Symbol) -> Symbol:
        name = names.get(a.dtype.kind)
        if name is None:
            raise TypeError(f"no code for {'/'.join({*names.values()})} of {a.dtype}")
        return a.like(getattr(a.trace.f.b, name)(a.value, b.value))

    return lower


def _comparison(operator: str) -> Lowering:
    def lower(a: Symbol, b: Symbol) -> Symbol:
        builder = a.trace.f.b
        if a.dtype.kind == "f":
            ordered = operator != "!="  # NaN differs from everything
            compare = builder.fcmp_ordered if ordered else builder.fcmp_unordered
        else:
            compare = builder.icmp_signed if a.dtype.kind == "i" else builder.icmp_unsigned
        return a.like(compare(operator, a.value, b.value), TRUTH)

    return lower


def _negative(x: Symbol) -> Symbol:
    b = x.trace.f.b
    return x.like(b.fneg(x.value) if x.dtype.kind == "f" else b.neg(x.value))


def _invert(x: Symbol) -> Symbol:
    return x.like(x.trace.f.b.not_(x.value))


def _absolute(x: Symbol) -> Symbol:
    return x.like(x.trace.f.elementwise("fabs", x.value))


def _copysign(x: Symbol, sign: Symbol) -> Symbol:
    return x.like(x.trace.f.elementwise("copysign", x.value, sign.value))


def _isfinite(x: Symbol) -> Symbol:
    return _absolute(x) < np.inf


def _isinf(x: Symbol) -> Symbol:
    return _absolute(x) == np.inf


def _signbit(x: Symbol) -> Symbol:
    return x.view(np.int64) < 0


def _maximum(x: Symbol, bound: Any) -> Symbol:
    """NaN where x is; `bound` must be a number. Of zeros of both signs, x: nothing shows which."""
    return _select(x < _number(bound), bound, x)


def _minimum(x: Symbol, bound: Any) -> Symbol:
    return _select(x > _number(bound), bound, x)


def _number(bound: Any) -> Any:
    """`bound`, if it is known not to be NaN."""
    if isinstance(bound, Symbol) and not isinstance(bound.value, ir.Constant):
        raise TypeError("no code for the maximum or minimum of two symbols")
    return bound


def _clip(x: Symbol, low: float, high: float) -> Symbol:
    return _minimum(_maximum(x, low), high)


def _rint(x: Symbol) -> Symbol:
    """Rounds by the addition of a great number: rounding instructions are not everywhere."""
    magnitude = _absolute(x)
    rounded = _copysign((magnitude + _WHOLE) - _WHOLE, x)
    return _select(magnitude < _WHOLE, rounded, x)


def _select(condition: Symbol, a: Any, b: Any) -> Symbol:
    """np.where: a where the condition is not 0, else b."""
    if condition.dtype != TRUTH:
        condition = condition != 0
    a, b = condition.operands([a, b])
    return a.like(condition.trace.f.b.select(condition.value, a.value, b.value))


UFUNCS: dict[Any, Lowering] = {
    np.absolute: _absolute,
    np.add: _binary(f="fadd", i="add", u="add"),
    np.bitwise_and: _binary(i="and_", u="and_", b="and_"),
    np.bitwise_or: _binary(i="or_", u="or_", b="or_"),
    np.copysign: _copysign,
    np.equal: _comparison("=="),
    np.greater: _comparison(">"),
    np.greater_equal: _comparison(">="),
    np.invert: _invert,
    np.isfinite: _isfinite,
    np.isinf: _isinf,
    np.left_shift: _binary(i="shl", u="shl"),
    np.less: _comparison("<"),
    np.less_equal: _comparison("<="),
    np.maximum: _maximum,
    np.minimum: _minimum,
    np.multiply: _binary(f="fmul", i="mul", u="mul"),
    np.negative: _negative,
    np.not_equal: _comparison("!="),
    np.right_shift: _binary(i="ashr", u="lshr"),
    np.rint: _rint,
    np.signbit: _signbit,
    np.subtract: _binary(f="fsub", i="sub", u="sub"),
    np.true_divide: _binary(f="fdiv"),
}
"""The code of numpy's operators and elementwise functions."""

FUNCTIONS: dict[Any, Lowering] = {np.clip: _clip, np.where: _select}
"""The code of numpy's other functions."""
