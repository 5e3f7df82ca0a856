"""Models that PT2E quantized become programs of integers, with torch's own results."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect import graph  # noqa: E402
from npu_dialect.graph.quant import QuantType  # noqa: E402

importlib.import_module("torch.ao.quantization.fx._decomposed")  # registers the operators
nn = torch.nn
ops = torch.ops.quantized_decomposed


@dataclass(frozen=True)
class Real:
    """Scale and zero point of int8 values."""

    scale: float
    zero: int

    def __call__(self, x: Any) -> Any:
        """x as an operator sees it between quantize and dequantize."""
        q = ops.quantize_per_tensor(x, self.scale, self.zero, -128, 127, torch.int8)
        return ops.dequantize_per_tensor(q, self.scale, self.zero, -128, 127, torch.int8)


class Weight(nn.Module):
    """A weight in int8, with a scale for each output channel."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        real = torch.randn(shape)
        scale = real.flatten(1).abs().amax(1) / 127
        zero = torch.zeros(shape[0], dtype=torch.int64)
        stored = ops.quantize_per_channel(real, scale, zero, 0, -127, 127, torch.int8)
        for name, tensor in (("stored", stored), ("scale", scale), ("zero", zero)):
            self.register_buffer(name, tensor)

    def forward(self) -> Any:
        return ops.dequantize_per_channel(
            self.stored, self.scale, self.zero, 0, -127, 127, torch.int8
        )


class Network(nn.Module):
    """As `convert_pt2e` leaves a residual block and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = Weight(8, 3, 3, 3), Weight(8, 1, 3, 3)
        self.point, self.head = Weight(8, 8, 1, 1), Weight(5, 8)
        self.bias = nn.Parameter(torch.randn(8) / 4)
        self.end = Real(0.08, -3)

    def forward(self, image: Any) -> Any:
        image, wide, narrow = Real(0.03, 2)(image), Real(0.05, -128), Real(0.07, 4)
        x = wide(torch.relu(nn.functional.conv2d(image, self.stem(), self.bias, 2, 1)))
        y = narrow(nn.functional.conv2d(x, self.depthwise(), None, 1, 1, 1, 8))
        y = wide(torch.relu(nn.functional.conv2d(y, self.point(), self.bias)))
        y = wide(nn.functional.max_pool2d(wide(x + y), 2))
        return self.end(nn.functional.linear(wide(y.mean((2, 3))), self.head()))


def exported(module: Any, *inputs: Any) -> Any:
    return torch.export.export(module.eval(), inputs, strict=False)


@pytest.fixture(scope="module")
def network() -> tuple[Any, Any]:
    torch.manual_seed(3)
    return Network(), torch.randn(1, 3, 12, 12)


def test_a_quantized_model_is_a_program_of_integers(network: tuple[Any, Any]) -> None:
    module, image = network
    program = npu.compile(exported(module, image), target="edge256")
    assert not [row for row in program.placement if row.engine == "host"]
    (found,) = npu.simulate(program, image.numpy()).outputs.values()
    steps = np.abs(found - module(image).detach().numpy()) / module.end.scale
    assert steps.max() < 1.01


def test_a_weight_stays_in_its_integers_with_a_scale_for_each_channel(
    network: tuple[Any, Any],
) -> None:
    lowered = npu.load(exported(*network), target="edge256")
    npu.lower(lowered, until="graph")
    (stem, *_) = [op for op in lowered.walk() if isinstance(op, graph.Conv2DOp)]
    element = stem.operands[1].type.element_type  # pyright: ignore
    assert isinstance(element, QuantType) and element.axis is not None
    np.testing.assert_allclose(element.scales, network[0].stem.scale.numpy())


def test_quantized_types_are_those_of_onnx(network: tuple[Any, Any]) -> None:
    module = npu.load(exported(*network), target="edge256")
    first = next(op for op in module.walk() if isinstance(op, graph.QuantizeOp))
    element = first.result.type.element_type  # pyright: ignore
    assert str(element) == str(graph.uniform(npu.dtypes.i8, 0.03, 2))  # pyright: ignore


class Dynamic(nn.Module):
    """A linear layer whose input is quantized by its own range."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Weight(6, 16)

    def forward(self, x: Any) -> Any:
        scale, zero = ops.choose_qparams.tensor(x, -128, 127, 1e-5, torch.int8)
        q = ops.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
        x = ops.dequantize_per_tensor.tensor(q, scale, zero, -128, 127, torch.int8)
        return nn.functional.linear(x, self.weight())


def test_dynamic_quantization_runs_on_a_machine_with_floats() -> None:
    torch.manual_seed(4)
    module, x = Dynamic(), torch.randn(3, 16)
    program = npu.compile(exported(module, x), target="mobile4k")
    assert not [row for row in program.placement if row.engine == "host"]
    (found,) = npu.simulate(program, x.numpy()).outputs.values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-5)


class Reduced(nn.Module):
    """Integers of 7 bits, as some kernels want them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Weight(6, 16)

    def forward(self, x: Any) -> Any:
        for layer in (nn.Identity(), self.layer):
            q = ops.quantize_per_tensor(layer(x), 0.1, 3, -63, 60, torch.int8)
            x = ops.dequantize_per_tensor(q, 0.1, 3, -63, 60, torch.int8)
        return x

    def layer(self, x: Any) -> Any:
        return nn.functional.linear(x, self.weight())


def test_bounds_narrower_than_the_type_hold() -> None:
    torch.manual_seed(6)
    module, x = Reduced(), torch.linspace(-10, 10, 48).reshape(3, 16)
    program = npu.compile(exported(module, x), target="edge256")
    assert not [row for row in program.placement if row.engine == "host"]
    (found,) = npu.simulate(program, x.numpy()).outputs.values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-6)


# torchao's flow, where it is installed


def small(kind: Callable[..., Any]) -> Any:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), kind(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Hardtanh, nn.ReLU6])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_model_of_prepare_and_convert_is_within_a_step(
    kind: Callable[..., Any], per_channel: bool
) -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer")
    image = torch.randn(1, 3, 12, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = xnnpack.get_symmetric_quantization_config(is_per_channel=per_channel)
        module = exported(small(kind), image).module()
        prepared = pt2e.prepare_pt2e(module, xnnpack.XNNPACKQuantizer().set_global(config))
        prepared(image)
        converted = pt2e.convert_pt2e(prepared)
        program = npu.compile(
            torch.export.export(converted, (image,), strict=False), target="edge256"
        )
    assert not [row for row in program.placement if row.engine == "host"]
    (found,) = npu.simulate(program, image.numpy()).outputs.values()
    scale = next(n.args[1] for n in reversed(converted.graph.nodes)
                 if "dequantize_per_tensor" in str(n.target))  # fmt: skip
    assert np.abs(found - converted(image).detach().numpy()).max() <= 1.01 * scale
