"""The routine of 3 x 3 convolutions of stride 1 with known weights, by Winograd's algorithm.

F(2 x 2, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), in
integers: four outputs take 16 products per channel instead of 36. The transform of the weights has
halves; here it is doubled in both directions, so that the sums are four times the wanted ones, and
all is exact while those fit in 32 bits (`fits`). It pays where sums of i16 products are the fastest
exact arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npu_dialect.machine import Array
from npu_dialect.runtime.compiled.builder import I16, I32, I64, Function, Value, vector
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.products import Tile, by_tiles, micro_kernel
from npu_dialect.runtime.compiled.records import ROUTINE, Fields

SPEC: Spec = ("winograd",)
POINTS = 16
"""Products of a tile: 4 x 4."""

WINOGRAD = Fields(
    "tile_rows",  # tiles of 2 x 2 outputs
    "tile_columns",
    "rows",  # outputs
    "columns",
    "strip",  # rows of tiles whose input is brought into scratch at a time
    "block",  # rows of tiles that are computed at a time
    "image",  # routine that brings input rows into scratch, and its record
    "image_record",
    "pitch",  # bytes of a row of the image, and of a pixel
    "pixel",
    "channels",
    "groups",  # pairs of input channels
    "point_pitch",  # bytes of a transformed tile at one point
    "weights",
    "zeros",  # as many as a panel has channels
    "padded",  # output channels, filled up to whole vectors
    "finish",  # routine of the output stage; its record is the tail
    "scratch_sums",  # offsets in scratch
    "scratch_offsets",
    "scratch_points",
    "scratch_products",
    "scratch_image",
)


def transformed(weights: Array) -> Array:
    """Whole weights [3, 3, C, N] as i16 [16, C, N], four times too great."""
    rows = np.stack(_doubled(weights.astype(np.int16)))
    return np.stack([p for row in rows for p in _doubled(row)])


def _doubled(g: Array) -> list[Array]:
    """One direction of the transform of three weights, doubled."""
    outer = g[0] + g[2]
    return [g[0] * 2, outer + g[1], outer - g[1], g[2] * 2]


def fits(weights: Array, greatest: int) -> bool:
    """Whether the algorithm is exact for inputs of magnitudes up to `greatest`."""
    largest = int(np.abs(weights).max(initial=0))
    sums = int(np.abs(weights).sum(axis=(0, 1, 2), dtype=np.int64).max(initial=0)) * greatest
    return 4 * sums < 2**31 and 9 * largest < 2**15 and 4 * greatest < 2**15


@emitter("winograd")
def emit(module: Any, symbol: str, host: Host) -> None:
    """One instruction, without partial sums."""
    tile = Tile.of(host, 2)
    kernels = {
        (height, width): micro_kernel(module, host, "i16", height, width, from_zero=True)
        for height, width in tile.sizes()
    }
    f = Function(module, symbol, ROUTINE)
    _Winograd(f, host, kernels, tile).emit()
    f.done()


class _Winograd:
    """Loops over strips, blocks, panels of output channels, points."""

    def __init__(
        self, f: Function, host: Host, kernels: dict[tuple[int, int], Value], tile: Tile
    ) -> None:
        self.f, self.host, self.kernels, self.tile = f, host, kernels, tile
        self.w = {name: WINOGRAD.whole(f, f["record"], name) for name in WINOGRAD.offsets}
        names = ("sums", "offsets", "points", "products", "image")
        self.area = {name: f.at(f["scratch"], self.w[f"scratch_{name}"]) for name in names}
        self.width = tile.vectors * host.lanes
        self.zero_offset = f.at(self.area["offsets"], -8)

    def address(self, name: str) -> Value:
        return WINOGRAD.pointer(self.f, self.f["record"], name)

    def emit(self) -> None:
        f, w = self.f, self.w
        f.store(I64(0), self.zero_offset)
        tiles = f.mul(w["block"], w["tile_columns"])

        def offset(i: Value, _: list[Value]) -> None:
            f.store(f.mul(i, w["point_pitch"]), self.area["offsets"], f.mul(i, 8))

        f.loop(0, tiles, offset)
        low, high = f.share(w["tile_rows"], f["thread"], f["threads"])

        def strip(first: Value, _: list[Value]) -> None:
            last = f.min(f.add(first, w["strip"]), high)
            rows = f.add(f.mul(f.sub(last, first), 2), 2)
            image = [self.area["image"], f.mul(first, 2), rows]
            f.call(self.address("image"), [self.address("image_record"), *image])

            def block(row: Value, _: list[Value]) -> None:
                count = f.min(f.sub(last, row), w["block"])
                start = f.mul(f.mul(f.sub(row, first), 2), w["pitch"])
                self._block(f.at(self.area["image"], start), row, count, tiles)

            f.loop(first, last, block, step=w["block"])

        f.loop(low, high, strip, step=w["strip"])

    def _block(self, image: Value, row: Value, rows: Value, capacity: Value) -> None:
        """`rows` rows of tiles from `row` on, whose input begins at `image`."""
        f, w = self.f, self.w
        plane = f.mul(capacity, w["point_pitch"])

        def transform_row(y: Value, _: list[Value]) -> None:
            def transform_tile(x: Value, _: list[Value]) -> None:
                place = f.add(f.mul(y, f.mul(w["pitch"], 2)), f.mul(x, f.mul(w["pixel"], 2)))
                index = f.add(f.mul(y, w["tile_columns"]), x)
                to = f.at(self.area["points"], f.mul(index, w["point_pitch"]))
                self._input(f.at(image, place), to, plane)

            f.loop(0, w["tile_columns"], transform_tile)

        f.loop(0, rows, transform_row)
        count = f.mul(rows, w["tile_columns"])
        per_channel = f.mul(w["groups"], 4 * POINTS)

        def panel(n: Value, _: list[Value]) -> None:
            weights = f.at(self.address("weights"), f.mul(n, per_channel))
            width = f.min(f.sub(w["padded"], n), self.width)
            self._panel(weights, width, count, plane)
            self._output(n, width, rows)

        f.loop(0, w["padded"], panel, step=self.width)
        self._finish(row, rows)

    def _input(self, patch: Value, to: Value, plane: Value) -> None:
        """The transform of a 4 x 4 patch of the input, for all channels."""
        f, w = self.f, self.w
        lanes = self.host.vector_bytes // 2

        def some(c: Value, _: list[Value]) -> None:
            at = f.mul(c, 2)
            d = [
                [
                    f.load(
                        vector(I16, lanes),
                        f.at(patch, f.add(f.mul(w["pitch"], y), f.mul(w["pixel"], x))),
                        at,
                    )
                    for x in range(4)
                ]
                for y in range(4)
            ]
            columns = [_differences(f, [d[y][x] for y in range(4)]) for x in range(4)]
            for y in range(4):
                for x, value in enumerate(_differences(f, [columns[x][y] for x in range(4)])):
                    f.store(value, f.at(to, f.mul(plane, 4 * y + x)), at)

        f.loop(0, w["channels"], some, step=lanes)

    def _panel(self, weights: Value, width: Value, count: Value, plane: Value) -> None:
        """The products of a panel at all points, by register tiles."""
        f, w = self.f, self.w
        vectors = f.div(width, self.host.lanes)
        size = 4 * self.width
        per_point = f.mul(f.mul(w["groups"], width), 4)

        def point(p: Value, _: list[Value]) -> None:
            base = f.at(self.area["points"], f.mul(p, plane))
            out = f.at(self.area["products"], f.mul(f.mul(p, count), size))
            columns = f.at(weights, f.mul(p, per_point))

            def arguments(i: Value) -> list[Value]:
                offsets = f.at(self.area["offsets"], f.mul(i, 8))
                runs = [I64(1), self.zero_offset, w["groups"]]
                start = [self.address("zeros"), I64(0)]
                result = [f.at(out, f.mul(i, size)), I64(size)]
                return [base, offsets, *runs, columns, *start, *result]

            by_tiles(f, self.kernels, self.tile, count, vectors, arguments)

        f.loop(0, POINTS, point)

    def _output(self, n: Value, width: Value, rows: Value) -> None:
        """The sums of a panel from its products."""
        f, w = self.f, self.w
        size = 4 * self.width
        kind = vector(I32, self.host.lanes)
        line = f.mul(f.mul(w["tile_columns"], 2), f.mul(w["padded"], 4))
        plane = f.mul(f.mul(rows, w["tile_columns"]), size)

        def tile(i: Value, _: list[Value]) -> None:
            y = f.div(i, w["tile_columns"])
            x = f.sub(i, f.mul(y, w["tile_columns"]))
            place = f.add(f.mul(y, f.mul(line, 2)), f.mul(x, f.mul(w["padded"], 8)))
            to = f.at(self.area["sums"], f.add(place, f.mul(n, 4)))
            of = f.at(self.area["products"], f.mul(i, size))

            def some(c: Value, _: list[Value]) -> None:
                at = f.mul(c, 4)
                m = [f.load(kind, f.at(of, f.mul(plane, p)), at) for p in range(POINTS)]
                half = [_sums(f, m[4 * r : 4 * r + 4]) for r in range(4)]
                for column in range(2):
                    for row, value in enumerate(_sums(f, [h[column] for h in half])):
                        there = f.at(to, f.add(f.mul(line, row), f.mul(w["padded"], 4 * column)))
                        f.store(f.b.ashr(value, f.constant(I32, 2, kind.count)), there, at)

            f.loop(0, width, some, step=self.host.lanes)

        f.loop(0, f.mul(rows, w["tile_columns"]), tile)

    def _finish(self, row: Value, rows: Value) -> None:
        """The output stage of the rows of outputs that there are."""
        f, w = self.f, self.w
        tail = WINOGRAD.end(f, f["record"])
        first = f.mul(row, 2)
        last = f.min(f.add(first, f.mul(rows, 2)), w["rows"])
        line = f.mul(f.mul(w["tile_columns"], 2), f.mul(w["padded"], 4))

        def one(y: Value, _: list[Value]) -> None:
            sums = f.at(self.area["sums"], f.mul(f.sub(y, first), line))
            f.call(self.address("finish"), [tail, sums, f.mul(y, w["columns"]), w["columns"]])

        f.loop(first, last, one)


def _differences(f: Function, d: list[Value]) -> list[Value]:
    """One direction of the input's transform."""
    return [f.b.sub(d[0], d[2]), f.b.add(d[1], d[2]), f.b.sub(d[2], d[1]), f.b.sub(d[1], d[3])]


def _sums(f: Function, m: list[Value]) -> list[Value]:
    """One direction of the output's transform."""
    middle = f.b.add(m[0], m[1])
    return [f.b.add(middle, m[2]), f.b.sub(f.b.sub(m[1], m[2]), m[3])]
