"""Tile functions whose array operations read constants in dram, written by hand: the same sums as
int64 numpy at level tile, and at level npu in both tiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import reference_conv, wrap
from test_streamed_constants import with_port
from tile_nests import body, function, load, loops, trips
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp

import npu_dialect as npu
from npu_dialect import dtypes, provenance, rice
from npu_dialect.blob import BlobAttr
from npu_dialect.codecs import PACKED
from npu_dialect.diagnostics import CompileError
from npu_dialect.kernel import Kernel
from npu_dialect.npu.arrays import ArrayInstruction
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.pipeline import Options
from npu_dialect.pipeline import run as run_passes
from npu_dialect.tile import (
    AllocOp,
    ConstantOp,
    Conv2DOp,
    CopyOp,
    DepthwiseConv2DOp,
    MatmulOp,
    Span,
    TransposeOp,
    ViewOp,
    WaitOp,
)
from npu_dialect.tile.interpret import run
from npu_dialect.tile.verify import check

Array = npt.NDArray[Any]
QUIET = Options(verify_each=False, reproducer=None)
PASSES = "tile-pack-constants,tile-allocate,tile-to-npu,npu-sync,npu-roll,npu-verify"
BIAS = Kernel.parse("(t0: i32; p0: i32) -> i32: v0 = add.i32 t0, p0")
TARGETS = ("edge256", "ethos_u55_256", "ethos_u85_2048")


@dataclass(frozen=True)
class Layer:
    """A product with a bias; weights lie channel by channel in a constant, and are read in dram by
    every tile of output channels, as the bias is.
    """

    kind: str
    inputs: int = 24
    channels: int = 20
    tile: int = 8
    coded: bool = True
    unit: bool = True
    """Whether streams have whole channels for units."""
    seed: int = 0

    @property
    def kernel(self) -> tuple[int, ...]:
        return () if self.kind == "matmul" else (3, 2)

    @property
    def filters(self) -> tuple[int, ...]:
        """Extents of the weights, as the array takes them."""
        depth = () if self.kind == "depthwise" else (self.inputs,)
        return *self.kernel, *depth, self.channels

    def arrays(self) -> tuple[Array, Array, Array]:
        """Input, weights and bias."""
        rng = np.random.default_rng(self.seed)
        x = rng.integers(
            -128, 128, (5, self.inputs) if self.kind == "matmul" else (6, 7, self.depth)
        )
        w = np.clip(np.rint(rng.normal(3, 9, self.filters)), -128, 127)
        return (
            x.astype(np.int8),
            w.astype(np.int8),
            rng.integers(-999, 999, (1, self.channels)).astype(np.int32),
        )

    @property
    def depth(self) -> int:
        return self.channels if self.kind == "depthwise" else self.inputs

    def expected(self) -> Array:
        """In int64, as 32 bits."""
        x, w, bias = self.arrays()
        if self.kind == "matmul":
            return wrap((x.astype(np.int64) - 3) @ w.astype(np.int64) + bias)
        if self.kind == "depthwise":
            filters = np.zeros((*w.shape, self.channels), np.int8)
            for c in range(self.channels):
                filters[..., c, c] = w[..., c]
            w = filters
        return wrap(reference_conv(x, w, (4, 6), x_zero=3) + bias)

    def nest(self) -> FuncOp:
        x, w, bias = self.arrays()
        sums = self.expected()
        func = function([(x.shape, dtypes.i8), (sums.shape, dtypes.i32)])
        build = body(func)
        order = (w.ndim - 1, *range(w.ndim - 1))
        by_channel = BlobAttr.of(np.ascontiguousarray(w.transpose(order)))
        weights, params = (
            build.insert(ConstantOp(by_channel)),
            build.insert(ConstantOp(BlobAttr.of(bias))),
        )
        if self.coded:
            unit = w.size // self.channels if self.unit else 0
            weights.attributes[PACKED] = StringAttr(rice.name(unit))
            params.attributes[PACKED] = StringAttr(rice.name(0))
        turned = build.insert(TransposeOp(weights, [*range(1, w.ndim), 0]))
        whole = None if self.kind == "depthwise" else load(build, func.args[0], list(x.shape))
        inner, (o,) = loops(build, trips(self.channels, self.tile))
        part = Span(self.tile, 0, [(o, self.tile)])
        image = whole or load(inner, func.args[0], [*x.shape[:-1], part])
        filters = inner.insert(ViewOp(turned, [*w.shape[:-1], part]))
        row = inner.insert(ViewOp(params, [1, part]))
        result = inner.insert(ViewOp(func.args[1], [*sums.shape[:-1], part]))
        out = inner.insert(AllocOp.of(result, depth=2))
        fields: dict[str, Any] = {"out": out, "kernel": BIAS, "params": row, "x_zero": 3}
        if self.kind == "matmul":
            inner.insert(MatmulOp(image, filters, **fields))
        else:
            cls = DepthwiseConv2DOp if self.kind == "depthwise" else Conv2DOp
            windows = [Span(x.shape[0]), Span(x.shape[1])]
            inner.insert(cls(image, filters, windows, **fields))
        inner.insert(WaitOp(inner.insert(CopyOp(out, result))))
        for op in func.walk():
            op.location = provenance.name_location("layer1")
        return func


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Target files whose arrays read dram, by the name of what they are made of."""
    folder = tmp_path_factory.mktemp("targets")
    found: dict[str, Path] = {name: folder / f"{name}.toml" for name in TARGETS}
    for name, path in found.items():
        text = with_port(name, 2.5)
        if "rice" not in text:
            text = text.replace("codecs = [", 'decoded_bytes = 4\ncodecs = ["rice", ')
        path.write_text(text)
    return {name: str(path) for name, path in found.items()}


def lowered(layer: Layer, target: str) -> npu.Program:
    func = layer.nest()
    func.attributes["npu.input_names"] = ArrayAttr([StringAttr("x")])
    func.attributes["npu.output_names"] = ArrayAttr([StringAttr("y")])
    module = cast(ModuleOp, func.parent_op())
    module.attributes["npu.target"] = TargetAttr(target)
    run_passes(module, PASSES, options=QUIET)
    return npu.assemble(module)


def streams(program: npu.Program) -> list[dict[str, Any]]:
    """The fields of the instructions of the array that read dram."""
    return [
        op.values()
        for _, op in program.executed
        if isinstance(op, ArrayInstruction) and op.takes_dma
    ]


@settings(deadline=None, max_examples=15)
@given(
    kind=st.sampled_from(["conv2d", "depthwise", "matmul"]),
    inputs=st.integers(1, 40),
    channels=st.integers(1, 40),
    tile=st.integers(1, 40),
    coded=st.booleans(),
    unit=st.booleans(),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 1 << 30),
)
def test_constants_in_dram_give_the_sums_of_int64_at_all_levels_and_in_both_tiers(
    files: dict[str, str], target: str, **drawn: Any
) -> None:
    layer = Layer(**drawn)
    x, expected = layer.arrays()[0], layer.expected()
    func = layer.nest()
    assert check(func) == []
    np.testing.assert_array_equal(run(func, [x])[0], expected)
    program = lowered(layer, files[target])
    assert len(streams(program)) == trips(layer.channels, layer.tile)
    again = npu.Program.from_bytes(program.to_bytes())
    for each in (program, again):
        for tier, strict in (("plain", False), ("compiled", False), ("compiled", True)):
            session = npu.Session(each, tier=tier, strict=strict)
            assert not session.fallbacks
            np.testing.assert_array_equal(session.run(x).outputs["y"], expected)


def test_every_tile_of_coded_weights_reads_a_stream_of_its_own(files: dict[str, str]) -> None:
    layer = Layer("matmul", 200, 24, 8)
    found = streams(lowered(layer, files["edge256"]))
    w = layer.arrays()[1]
    columns = np.ascontiguousarray(w.T)
    centres = rice.centres(columns)
    sizes = [rice.encode(columns[k : k + 8], 200, centres).size for k in (0, 8, 16)]
    assert [(v["stream"], v["row"]) for v in found] == [(size, 200) for size in sizes]
    assert [v["weights"].strides for v in found] == [(1, 200)] * 3


def test_what_is_not_coded_is_read_where_it_lies(files: dict[str, str]) -> None:
    found = streams(lowered(Layer("conv2d", 24, 20, 8, coded=False), files["edge256"]))
    assert [v["weights"].dims for v in found] == [(3, 2, 24, 8), (3, 2, 24, 8), (3, 2, 24, 4)]
    assert all("stream" not in v and v["params"].space == "dram" for v in found)


def test_streams_and_copies_take_turns(files: dict[str, str]) -> None:
    """Depthwise: every tile has a copy of its input, its product and a copy of its result."""
    profile = lowered(Layer("depthwise", 1, 40, 8), files["edge256"]).profile
    spans = sorted(
        (int(profile.timing.start[i]), int(profile.timing.free[i]))
        for i, (_, op) in enumerate(profile.program.executed)
        if op.engine == "dma" or op.takes_dma
    )
    assert len(spans) == 15
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_bytes_that_the_array_reads_are_those_of_the_profile(files: dict[str, str]) -> None:
    layer = Layer("matmul", 256, 32, 32, coded=False)
    profile = lowered(layer, files["edge256"]).profile
    (product,) = [c for c in profile.costs if c.macs]
    assert product.reads["dram"] == 256 * 32 + 32 * 4
    assert profile.dram_read == 256 * 32 + 32 * 4 + 5 * 256


# --- what is refused ------------------------------------------------------------------------------


def test_an_array_without_the_port_is_refused() -> None:
    with pytest.raises(CompileError, match=r"no port of dram; found w and params in dram"):
        lowered(Layer("matmul"), "edge256")


def test_what_is_computed_must_lie_on_the_chip() -> None:
    func = function([((5, 8), dtypes.i8), ((8, 4), dtypes.i8), ((5, 4), dtypes.i32)])
    build = body(func)
    x, w = load(build, func.args[0], [5, 8]), func.args[1]
    out = build.insert(AllocOp.of(func.args[2]))
    build.insert(MatmulOp(x, w, out=out, kernel=Kernel((dtypes.i32,), (), (), dtypes.i32)))
    build.insert(WaitOp(build.insert(CopyOp(out, func.args[2]))))
    (record,) = check(func)
    assert record.rule == "tile.matmul: w in dram must be a part of a constant"
