"""The systolic targets take SCALE-Sim's cycles, of which ../shared/reference/scalesim.md has the
figures: 84 layers of four networks, both dataflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

import pytest

from npu_dialect import dtypes
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import ArrayInstruction, Conv2DOp, MatmulOp
from npu_dialect.target import load_target

Layer = tuple[int, int, int, int, int]
"""Rows and columns of the input, of the filter, channels, filters, stride."""

RESNET18: tuple[Layer, ...] = (
    (224, 7, 3, 64, 2), *[(56, 3, 64, 64, 1)] * 4,
    (56, 3, 64, 128, 2), (28, 3, 128, 128, 1), (56, 1, 64, 128, 2), *[(28, 3, 128, 128, 1)] * 2,
    (28, 3, 128, 256, 2), (14, 3, 256, 256, 1), (28, 1, 128, 256, 2), *[(14, 3, 256, 256, 1)] * 2,
    (14, 3, 256, 512, 2), (7, 3, 512, 512, 1), (14, 1, 256, 512, 2), *[(7, 3, 512, 512, 1)] * 2,
    (1, 1, 512, 1000, 1),
)  # fmt: skip
"""As SCALE-Sim has it: no padding, output sizes round up."""

MOBILENET: tuple[Layer, ...] = (
    (224, 3, 3, 32, 2), (112, 3, 32, 1, 1), (112, 1, 32, 64, 1), (112, 3, 64, 1, 2),
    (56, 1, 64, 128, 1), (56, 3, 128, 1, 1), (56, 1, 128, 128, 1), (56, 3, 128, 1, 2),
    (28, 1, 128, 256, 1), (28, 3, 256, 1, 1), (28, 1, 256, 256, 1), (28, 3, 256, 1, 2),
    (14, 1, 256, 512, 1), *[(14, 3, 512, 1, 1), (14, 1, 512, 512, 1)] * 5, (14, 3, 512, 1, 2),
    (7, 1, 512, 1024, 1), (7, 3, 1024, 1, 2), (7, 1, 1024, 1024, 1),
)  # fmt: skip
"""Depthwise layers stand there as one filter."""

STRIDES_025 = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
CHANNELS_025 = (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)

BERT = (*[(128, 768, 768)] * 3, (128, 128, 64), (128, 64, 128), (128, 768, 768),
        (128, 3072, 768), (128, 768, 3072))  # fmt: skip
"""Rows, columns and sums of the products of a layer of BERT-base: 128 tokens, one head."""


def convolution(layer: Layer, out: int) -> Conv2DOp:
    """A layer as one instruction, its sums left in the accumulators."""
    size, kernel, channels, filters, stride = layer
    return Conv2DOp(
        input=Operand.dense("spm", 0, dtypes.i8, [size, size, channels]),
        weights=Operand.dense("spm", 0, dtypes.i8, [kernel, kernel, channels, filters]),
        partial=Operand.dense("acc", 0, dtypes.i32, [out, out, filters]),
        strides=[stride, stride], dilations=[1, 1], pads=[0, 0],
        accumulate=0, x_zero=0, w_zero=0,
    )  # fmt: skip


def product(m: int, n: int, k: int) -> MatmulOp:
    """A matrix product as one instruction."""
    return MatmulOp(
        input=Operand.dense("spm", 0, dtypes.i8, [m, k]),
        weights=Operand.dense("spm", 0, dtypes.i8, [k, n]),
        partial=Operand.dense("acc", 0, dtypes.i32, [m, n]),
        accumulate=0, x_zero=0, w_zero=0,
    )  # fmt: skip


def unpadded(layers: tuple[Layer, ...]) -> Iterator[Conv2DOp]:
    for layer in layers:
        size, kernel, _, _, stride = layer
        yield convolution(layer, ceil((size - kernel + stride) / stride))


def mobilenet_025() -> Iterator[ArrayInstruction]:
    """MobileNetV1 0.25 of 128 x 128 as its .tflite has it: output sizes are those of padding."""
    yield convolution((128, 3, 3, 8, 2), 64)
    size = 64
    for stride, channels, filters in zip(STRIDES_025, CHANNELS_025, CHANNELS_025[1:], strict=False):
        out = ceil(size / stride)
        yield convolution((size, 3, channels, 1, stride), out)
        yield convolution((out, 1, channels, filters, 1), out)
        size = out
    yield product(1, 1001, 256)


NETWORKS = {
    "resnet18": list(unpadded(RESNET18)),
    "mobilenet": list(unpadded(MOBILENET)),
    "bert_layer": [product(*shape) for shape in BERT],
    "mobilenet_v1_025_128": list(mobilenet_025()),
}

TOTALS = {
    ("resnet18", "ws"): 2519815,
    ("resnet18", "os"): 1718353,
    ("mobilenet", "ws"): 1433453,
    ("mobilenet", "os"): 1338519,
    ("bert_layer", "ws"): 1538008,
    ("bert_layer", "os"): 941832,
    ("mobilenet_v1_025_128", "ws"): 142308,
    ("mobilenet_v1_025_128", "os"): 112040,
}
"""Total cycles of SCALE-Sim 3.0.0 without stalls ("calc"), 32 x 32."""


def cycles(op: ArrayInstruction, dataflow: str) -> int:
    return op.cost(load_target(f"systolic32_{dataflow}"), ()).cycles


def test_the_layers_are_those_that_were_compared():
    assert sum(map(len, NETWORKS.values())) * 2 == 168


@pytest.mark.parametrize(("network", "dataflow"), TOTALS)
def test_a_network_takes_the_cycles_that_scale_sim_counts(network: str, dataflow: str):
    assert sum(cycles(op, dataflow) for op in NETWORKS[network]) == TOTALS[network, dataflow]


@pytest.mark.parametrize(("dataflow", "expected"), [("ws", 3551), ("os", 3039)])
def test_a_product_of_128_takes_the_cycles_that_scale_sim_counts(dataflow: str, expected: int):
    assert cycles(product(128, 128, 128), dataflow) == expected


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_takes_the_closed_form(network: str):
    for op in NETWORKS[network]:
        values, work = op.values(), op.work(op.values())
        m, n = work["positions"], work["out_channels"]
        k = work["taps"] * work["in_channels"]
        assert prod(values["partial"].dims) == m * n
        assert cycles(op, "ws") == ceil(k / 32) * ceil(n / 32) * (m + 2 * 32 + 32 - 2) - 1
        assert cycles(op, "os") == ceil(m / 32) * ceil(n / 32) * (k + 32 + 32 - 2) - 1
