"""A function of LLVM IR under construction: llvmlite's builder, and loops, byte addresses, vectors.

Addresses are bytes, whole numbers are i64. The IR is in SSA form as it is written, without stack
slots, so that no pass over it is needed before code is generated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from npu_dialect.runtime.compiled.llvm import ir

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
VOID = ir.VoidType()

Value = Any
"""A value of llvmlite, which has no types for checkers."""
Whole = Any
"""An i64 value, or a Python int."""

WIDTHS: dict[Any, int] = {I8: 1, I16: 2, I32: 4, I64: 8, F16: 2, F32: 4, F64: 8}
"""Bytes of an element type."""


def vector(element: Any, lanes: int) -> Any:
    """The vector type of `lanes` elements."""
    return ir.VectorType(element, lanes)


def byte_size(type_: Any) -> int:
    """Bytes of a scalar or vector type."""
    if isinstance(type_, ir.VectorType):
        return WIDTHS[type_.element] * type_.count
    return WIDTHS[type_]


class _Callee:
    """An address as a function: what llvmlite's call instruction asks of one."""

    calling_convention = None

    def __init__(self, address: Value, kind: Any) -> None:
        self.type, self.function_type = address.type, kind
        self.get_reference = address.get_reference
        self.is_metadata = False


class Function:
    """One function; `b` is llvmlite's builder at the place where code is added."""

    def __init__(
        self,
        module: Any,
        name: str,
        arguments: Mapping[str, Any],
        result: Any = VOID,
        *,
        internal: bool = False,
    ) -> None:
        self.module = module
        kind = ir.FunctionType(result, list(arguments.values()))
        self.function = ir.Function(module, kind, name)
        if internal:
            self.function.linkage = "internal"
        self.arguments: dict[str, Value] = dict(zip(arguments, self.function.args, strict=True))
        self.b: Any = ir.IRBuilder(self.function.append_basic_block("entry"))

    def __getitem__(self, argument: str) -> Value:
        return self.arguments[argument]

    # --- whole numbers ----------------------------------------------------------------------------

    def whole(self, value: Whole) -> Value:
        """An i64 value."""
        return I64(value) if isinstance(value, int) else value

    def add(self, a: Whole, b: Whole) -> Whole:
        """a + b; sums with a known 0 and of known numbers cost nothing."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        if isinstance(b, int) and b == 0:
            return a
        return self.b.add(self.whole(a), self.whole(b))

    def sub(self, a: Whole, b: Whole) -> Whole:
        """a - b."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if isinstance(b, int) and b == 0:
            return a
        return self.b.sub(self.whole(a), self.whole(b))

    def mul(self, a: Whole, b: Whole) -> Whole:
        """a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if isinstance(a, int):
            a, b = b, a
        if isinstance(b, int) and b in (0, 1):
            return a if b else 0
        return self.b.mul(self.whole(a), self.whole(b))

    def div(self, a: Whole, b: Whole) -> Whole:
        """a / b of numbers that are not negative."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return self.b.udiv(self.whole(a), self.whole(b))

    def min(self, a: Whole, b: Whole) -> Value:
        """The smaller."""
        a, b = self.whole(a), self.whole(b)
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def max(self, a: Whole, b: Whole) -> Value:
        """The greater."""
        a, b = self.whole(a), self.whole(b)
        return self.b.select(self.b.icmp_signed(">", a, b), a, b)

    def less(self, a: Whole, b: Whole) -> Value:
        """a < b, an i1."""
        return self.b.icmp_signed("<", self.whole(a), self.whole(b))

    def share(self, count: Whole, thread: Value, threads: Value) -> tuple[Value, Value]:
        """The part [low, high) of `count` pieces of work that belongs to a thread."""
        low = self.div(self.mul(count, thread), threads)
        return low, self.div(self.mul(count, self.add(thread, 1)), threads)

    # --- memory -----------------------------------------------------------------------------------

    def at(self, pointer: Value, offset: Whole) -> Value:
        """The address `offset` bytes further."""
        if isinstance(offset, int) and offset == 0:
            return pointer
        return self.b.gep(pointer, [self.whole(offset)], source_etype=I8)

    def load(self, type_: Any, pointer: Value, offset: Whole = 0) -> Value:
        """A scalar or vector, at any alignment."""
        return self.b.load(self.at(pointer, offset), typ=type_, align=1)

    def store(self, value: Value, pointer: Value, offset: Whole = 0) -> None:
        """Stores a scalar or vector, at any alignment."""
        self.b.store(value, self.at(pointer, offset), align=1)

    def word(self, record: Value, index: int) -> Value:
        """Word number `index` of a record, as i64."""
        return self.load(I64, record, 8 * index)

    def pointer(self, record: Value, index: int) -> Value:
        """Word number `index` of a record, as an address."""
        return self.load(POINTER, record, 8 * index)

    def copy(self, target: Value, source: Value, size: Whole) -> None:
        """memcpy of `size` bytes that do not overlap."""
        kind = ir.FunctionType(VOID, [POINTER, POINTER, I64, I1])
        name = "llvm.memcpy.p0.p0.i64"
        self.b.call(self.declare(name, kind), [target, source, self.whole(size), I1(0)])

    # --- vectors ----------------------------------------------------------------------------------

    def splat(self, scalar: Value, lanes: int) -> Value:
        """A vector with `scalar` in every lane."""
        kind = vector(scalar.type, lanes)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
        return self.shuffle(first, first, [0] * lanes)

    def constant(self, element: Any, value: float, lanes: int) -> Value:
        """A constant vector with `value` in every lane."""
        return ir.Constant(vector(element, lanes), [value] * lanes)

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """The chosen lanes of `a` followed by `b`."""
        return self.b.shuffle_vector(a, b, ir.Constant(vector(I32, len(lanes)), list(lanes)))

    def concat(self, parts: Sequence[Value]) -> Value:
        """Vectors of one type, one after the other; their number is a power of two."""
        while len(parts) > 1:
            lanes = 2 * parts[0].type.count
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.shuffle(a, b, range(lanes)) for a, b in pairs]
        return parts[0]

    def intrinsic(self, name: str, result: Any, arguments: Sequence[Value]) -> Value:
        """Calls the intrinsic `name` of LLVM."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.b.call(self.declare(name, kind), list(arguments))

    def elementwise(self, name: str, *arguments: Value) -> Value:
        """Calls the intrinsic `llvm.<name>` that is overloaded by the type of its operands."""
        kind = arguments[0].type
        return self.intrinsic(f"llvm.{name}.{_suffix(kind)}", kind, arguments)

    def call(self, address: Value, arguments: Sequence[Value]) -> None:
        """Calls the function without a result that lies at `address`."""
        kind = ir.FunctionType(VOID, [a.type for a in arguments])
        self.b.call(_Callee(address, kind), list(arguments))

    def declare(self, name: str, kind: Any) -> Value:
        """The declaration of a function elsewhere."""
        found = self.module.globals.get(name)
        return found if found is not None else ir.Function(self.module, kind, name)

    # --- control ----------------------------------------------------------------------------------

    def loop(
        self,
        start: Whole,
        stop: Whole,
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
        carried: Sequence[Value] = (),
        *,
        step: Whole = 1,
    ) -> list[Value]:
        """for i in range(start, stop, step): carried = body(i, carried). Gives the last carried."""
        before = self.b.block
        head, inside, after = (self.b.append_basic_block(n) for n in ("head", "body", "after"))
        self.b.branch(head)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        values = [self.b.phi(v.type) for v in carried]
        self.b.cbranch(self.less(index, stop), inside, after)
        self.b.position_at_end(inside)
        new = list(body(index, values) or [])
        following = self.add(index, step)
        self.b.branch(head)
        last = self.b.block
        for phi, first, again in zip(
            [index, *values], [self.whole(start), *carried], [following, *new], strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(again, last)
        self.b.position_at_end(after)
        return values

    def when(
        self,
        condition: Value,
        then: Callable[[], None],
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """if condition: then() else: otherwise()."""
        if otherwise is None:
            with self.b.if_then(condition):
                then()
            return
        with self.b.if_else(condition) as (yes, no):
            with yes:
                then()
            with no:
                otherwise()

    def done(self) -> Value:
        """Ends a function without a result."""
        self.b.ret_void()
        return self.function


def _suffix(type_: Any) -> str:
    if isinstance(type_, ir.VectorType):
        return f"v{type_.count}{_suffix(type_.element)}"
    if isinstance(type_, ir.IntType):
        return f"i{type_.width}"
    return f"f{8 * WIDTHS[type_]}"
