"""Operations with an index stream: rows read or written in the order of a list of indices."""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, LocationAttr, MemRefType, StringAttr
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, var_operand_def
from xdsl.utils.exceptions import VerifyException

from npu_dialect.functional.indexing import SCATTERS
from npu_dialect.tile.attributes import Span, WindowAttr, windows_of
from npu_dialect.tile.structure import check_windows
from npu_dialect.tile.syntax import INDEX, TileOp, Value, dtype_of, shape_of, space_of

INDICES = ("i32", "i64")


def _check_rows(rows: Value, listed: Value, indices: Value) -> None:
    """Raises VerifyException unless `listed` are rows of `rows`, one for each of `indices`."""
    x, y, n = shape_of(rows), shape_of(listed), shape_of(indices)
    if len(x) != 2 or len(y) != 2 or x[1] != y[1] or n != y[:1]:
        rule = "shapes must be [rows, elements], [count, elements] and [count]"
        raise VerifyException(f"{rule}, found {list(x)}, {list(y)} and {list(n)}")
    if dtype_of(rows) != dtype_of(listed):
        found = f"{dtype_of(rows)} and {dtype_of(listed)}"
        raise VerifyException(f"rows must have the same type, found {found}")
    if dtype_of(indices).name not in INDICES:
        raise VerifyException(f"indices must be i32 or i64, found {dtype_of(indices)}")


@irdl_op_definition
class GatherOp(TileOp):
    """Row `indices[k]` of x [rows, elements] becomes row k of `out`, by the dma engine.

    A negative index counts from the last row; one that is outside still means the nearest row. All
    of x counts as read.

    ```
    tile.gather ins(%x, %i : memref<100x16xi8, "dram">, memref<4xi32, "spm">)
      out(%y : memref<4x16xi8, "spm">)
    ```
    """

    INS: ClassVar[tuple[str, ...]] = ("x", "indices")
    name = "tile.gather"

    x = operand_def(MemRefType)
    indices = operand_def(MemRefType)
    out = operand_def(MemRefType)

    def __init__(
        self, x: Value, indices: Value, out: Value, *, location: LocationAttr | None = None
    ) -> None:
        super().__init__(operands=self.arrange(x=x, indices=indices, out=out))
        self.place(location)

    def verify_(self) -> None:
        self.check_memrefs()
        _check_rows(self.x, self.out, self.indices)


@irdl_op_definition
class ScatterOp(TileOp):
    """Row k of `updates` becomes row `indices[k]` of `out` (kind set), or is added to it,
    multiplied with it, or replaces it where it is greater (max) or smaller (min).

    Rows are taken in ascending order of k. The window says which rows `out` has: an index outside
    of it, negative ones among them, writes nothing.

    The vector unit does it in the scratchpad. Into dram the dma engine brings rows, of kind set
    alone.

    ```
    tile.scatter ins(%i, %u : memref<4xi32, "spm">, memref<4x16xf32, "spm">)
      out(%y : memref<8x16xf32, "spm">) window [%r * 8 : 8] {kind = "add"}
    ```
    """

    INS: ClassVar[tuple[str, ...]] = ("indices", "updates")
    name = "tile.scatter"

    indices = operand_def(MemRefType)
    updates = operand_def(MemRefType)
    out = operand_def(MemRefType)
    ivs = var_operand_def(INDEX)
    windows = prop_def(ArrayAttr[WindowAttr])
    kind = prop_def(StringAttr)

    def __init__(
        self,
        indices: Value,
        updates: Value,
        out: Value,
        kind: str,
        rows: Span,
        *,
        location: LocationAttr | None = None,
    ) -> None:
        """`rows`: the rows of `out`, by the indices that name them."""
        loops, windows = windows_of([rows])
        super().__init__(
            operands=self.arrange(indices=indices, updates=updates, out=out, ivs=loops),
            properties={"windows": windows, "kind": StringAttr(kind)},
        )
        self.place(location)

    @property
    def by_dma(self) -> bool:
        """Whether the dma engine does it: it writes rows of dram."""
        return space_of(self.out) == "dram"

    def verify_(self) -> None:
        self.check_memrefs()
        if self.kind.data not in SCATTERS:
            known = ", ".join(SCATTERS)
            raise VerifyException(f"kind must be one of {known}, found {self.kind.data}")
        if self.by_dma and self.kind.data != "set":
            raise VerifyException(f"kind must be set for rows of dram, found {self.kind.data}")
        check_windows(self.windows, 1, len(self.ivs))
        _check_rows(self.out, self.updates, self.indices)
