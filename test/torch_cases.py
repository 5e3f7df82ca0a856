"""One case or more for each importer of ATen: the operator, and arguments to call it with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of quantization


@dataclass(frozen=True)
class Case:
    """A call. Tensors among the arguments are inputs of the program, unless they are `Known`."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: tuple[int, ...] = (0,)
    """Which of several results are compared."""
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Known:
    """A tensor that the program carries."""

    tensor: torch.Tensor


def call(
    name: str, *args: Any, outputs: tuple[int, ...] = (0,), tolerance: float = 1e-5, **kwargs: Any
) -> Case:
    return Case(name, args, kwargs, outputs, tolerance)


_dice = torch.Generator().manual_seed(5)


def floats(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=_dice) * 4 - 2


def ints(*shape: int, low: int = -9, high: int = 9) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=_dice)


X, Y, ROW, IMAGE = floats(2, 3, 4), floats(2, 3, 4), floats(4), floats(1, 4, 6, 6)
POSITIVE = X.abs() + 0.1
Z, J, B = ints(2, 3, 4), ints(2, 3, 4, low=1), floats(2, 3, 4) > 0
C = X > 0.5
INFINITE = IMAGE.clone()
INFINITE[0, :, 1, 2], INFINITE[0, 1, 4, 4] = float("inf"), float("nan")
ENDLESS = floats(4, 3)
ENDLESS[0], ENDLESS[1, 0], ENDLESS[3, 2] = -float("inf"), float("inf"), float("nan")
LONG = torch.randn(2100, generator=_dice)
LONG[371], LONG[5], LONG[40] = float("nan"), float("inf"), -float("inf")
EXTREME = torch.full((2100,), float("nan"))
EXTREME[7], EXTREME[300], EXTREME[2000] = float("inf"), -float("inf"), 1
SEQUENCE, VOLUME = floats(1, 4, 8), floats(1, 2, 5, 6, 4)
W, V = Known(floats(4)), Known(floats(4).abs() + 0.5)

ELEMENTWISE = [
    *(call(name, X) for name in (
        "abs", "ceil", "cos", "erf", "exp", "floor", "hardswish", "neg", "relu", "round", "sigmoid",
        "sign", "silu", "sin", "tanh", "trunc", "gelu", "hardsigmoid", "relu6", "mish",
        "softplus", "elu", "hardtanh", "leaky_relu", "isnan", "isinf", "logical_not", "clone",
        "alias", "detach", "lift_fresh_copy", "contiguous",
    )),
    *(call(name, v * X) for name in ("expm1", "cosh", "sinh", "atan", "asinh", "tan")
      for v in (1, 1e-4, 10)),
    *(call(name, X * v) for name in ("asin", "acos", "atanh") for v in (0.49, 1e-4)),
    call("acosh", 1 + POSITIVE), call("acosh", 1 + POSITIVE * 1e-3), call("acosh", POSITIVE * 1e19),
    call("log1p", X * 1e-4), call("asinh", X * 1e19), call("atan", X * 1e20),
    call("atan2", X, Y), call("atan2", X * 0, ROW), call("atan2", ROW, X * 0),
    *(call(name, POSITIVE) for name in (
        "log", "log1p", "log2", "log10", "reciprocal", "rsqrt", "sqrt")),
    *(call(name, Z) for name in ("abs", "neg", "relu", "exp")),
    *(call(f"{name}.{kind}", x, y)
      for name in ("eq", "ge", "gt", "le", "lt", "ne")
      for kind, x, y in (("Tensor", X, Y), ("Scalar", X, 0.5), ("Scalar", Z, 2), ("Tensor", Z, X))),
    *(call(f"logical_{name}", B, C) for name in ("and", "or", "xor")),
    call("logical_and", X, Z),
    *(call(f"bitwise_{name}.{kind}", x, y) for name in ("and", "or", "xor")
      for kind, x, y in (("Tensor", Z, J), ("Tensor", B, C), ("Scalar", Z, 5))),
    call("bitwise_not", Z), call("bitwise_not", B),
    call("maximum", X, ROW), call("minimum", X, ROW), call("maximum", Z, J),
    call("mul.Tensor", X, ROW), call("mul.Scalar", X, 3), call("mul.Tensor", Z, 2.5),
    call("mul.Tensor", X, Z), *(call(name, B, C) for name in ("mul.Tensor", "maximum", "minimum")),
    call("softplus", X, 0.2, 0.2), call("softplus", X * 20),
    call("add.Tensor", X, Y, alpha=2), call("add.Tensor", Z, 2.5), call("add.Scalar", X, 1),
    call("add.Tensor", B, C), call("sub.Tensor", X, ROW), call("sub.Scalar", Z, 1),
    call("rsub.Scalar", X, 1), call("div.Tensor", X, POSITIVE), call("div.Tensor", Z, J),
    call("div.Scalar", X, 3),
    *(call(f"div.{kind}", x, y, rounding_mode=mode) for mode in ("floor", "trunc", None)
      for kind, x, y in (("Tensor_mode", X, POSITIVE), ("Scalar_mode", X, 0.7))),
    call("div.Tensor_mode", Z, J, rounding_mode="floor"),
    call("div.Tensor_mode", Z, J, rounding_mode="trunc"),
    call("fmod.Scalar", X, 0.7), call("fmod.Tensor", Z, J), call("remainder.Scalar", X, 0.7),
    call("remainder.Tensor", Z, J),
    *(call("pow.Tensor_Scalar", POSITIVE, e) for e in (0.5, -0.5, -1, 1, 2, 3, 2.7)),
    call("pow.Tensor_Tensor", POSITIVE, Y), call("pow.Scalar", 2.0, X),
    call("clamp", X, -0.5, 0.7), call("clamp", X, None, 0.7), call("clamp", Z, -1, 3),
    call("clamp.Tensor", X, ROW, None), call("where.self", B, X, Y), call("where.self", B, X, ROW),
    call("masked_fill.Scalar", X, B, 7.0),
    call("masked_fill.Tensor", X, B, Known(torch.tensor(3.))),
    call("gelu", X, approximate="tanh"), call("softplus", X, 2, 20), call("elu", X, 0.5, 2.0),
    call("_prelu_kernel", X, ROW),
    call("_to_copy", X, dtype=torch.int64), call("_to_copy", X, dtype=torch.bool),
    call("_to_copy", Z, dtype=torch.float32), call("dropout", X, 0.5, False),
    call("native_dropout", X, 0.5, False, outputs=(0, 1)),
    *(call("native_dropout", X, p, True, outputs=(0, 1)) for p in (0.0, 1.0)),
    *(call("round.decimals", X * 40, decimals=d) for d in (0, 2, -1)),
]  # fmt: skip

CONTRACTION = [
    call("linear", X, Known(floats(5, 4)), Known(floats(5))), call("linear", X, floats(5, 4)),
    call("linear", X, floats(4)),
    call("matmul", X, floats(4, 5)), call("matmul", X, ROW), call("matmul", ROW, floats(4)),
    call("mm", floats(3, 4), floats(4, 5)), call("bmm", X, floats(2, 4, 5)),
    call("mm", floats(3, 0), floats(0, 5)), call("addmm", floats(5), floats(3, 0), floats(0, 5)),
    call("mv", floats(3, 4), ROW), call("dot", ROW, floats(4)),
    call("addmm", floats(5), floats(3, 4), floats(4, 5)),
    call("addmm", floats(3, 5), floats(3, 4), floats(4, 5), beta=0.5, alpha=2),
    call("baddbmm", floats(2, 3, 5), X, floats(2, 4, 5)),
    *(call("convolution", IMAGE, Known(floats(o, 4 // g, 3, 3)), bias, stride, pad, dilation, False,
           [0, 0], g)
      for o, g, bias, stride, pad, dilation in (
          (6, 1, None, [1, 1], [0, 0], [1, 1]), (6, 2, Known(floats(6)), [2, 1], [1, 0], [1, 1]),
          (4, 4, None, [1, 1], [2, 2], [2, 2]))),
    call("convolution", SEQUENCE, Known(floats(6, 4, 3)), None, [2], [1], [1], False, [0], 1),
    call("convolution", VOLUME, Known(floats(3, 2, 2, 3, 2)), Known(floats(3)), [2, 1, 1],
         [1, 0, 0], [1, 1, 1], False, [0, 0, 0], 1),
    call("convolution", VOLUME, Known(floats(2, 3, 2, 3, 2)), None, [2, 1, 1],
         [1, 0, 0], [1, 1, 1], True, [1, 0, 0], 1),
    call("convolution", IMAGE, Known(floats(4, 3, 3, 3)), Known(floats(3)), [2, 2], [1, 1], [1, 1],
         True, [1, 1], 1),
    *(call("scaled_dot_product_attention", floats(1, 4, 3, 8), floats(1, h, 5, 8),
           floats(1, h, 5, 8), mask, 0.0, causal, scale=scale, enable_gqa=h != 4)
      for h, mask, causal, scale in (
          (4, None, False, None), (4, floats(3, 5) > 0, False, None), (2, floats(3, 5), False, 0.3),
          (4, None, True, None))),
]  # fmt: skip

NORMALIZATION = [
    call("_native_batch_norm_legit_no_training", IMAGE, W, W, W, V, 0.1, 1e-5),
    call("_native_batch_norm_legit_no_training", IMAGE, None, None, W, V, 0.1, 1e-5),
    call("_native_batch_norm_legit.no_stats", IMAGE, W, V, True, 0.1, 1e-5, outputs=(0, 1, 2)),
    call("_native_batch_norm_legit_functional", IMAGE, W, W, W, V, False, 0.1, 1e-5),
    call("_native_batch_norm_legit_functional", IMAGE, W, W, W, V, True, 0.1, 1e-5,
         outputs=(0, 1, 2, 3, 4)),
    call("layer_norm", X, [4], W, V, 1e-5), call("layer_norm", X, [3, 4]),
    call("native_layer_norm", X, [4], W, V, 1e-5),
    call("native_layer_norm", X, [3, 4], None, None, 1e-5, outputs=(0, 1, 2)),
    call("native_group_norm", IMAGE, W, V, 1, 4, 36, 2, 1e-5, outputs=(0, 1, 2)),
    call("group_norm", IMAGE, 2, W, V), call("native_group_norm", IMAGE, W, V, 1, 4, 36, 2, 1e-5),
    call("instance_norm", IMAGE, W, V, None, None, True, 0.1, 1e-5, False),
    call("rms_norm", X, [4], W, 1e-5), call("rms_norm", X, [3, 4]),
    *(call(name, X, dim, False) for name in ("_softmax", "_log_softmax") for dim in (1, -1)),
]  # fmt: skip

POOLING = [
    call("max_pool1d", SEQUENCE, [3], [2], [1]), call("max_pool2d", IMAGE, [3, 3], [2, 2], [1, 1]),
    call("max_pool2d", IMAGE, [2], [3], [0], [1], True), call("max_pool2d", floats(4, 6, 6), [2]),
    call("max_pool2d_with_indices", IMAGE, [3, 3], [2, 2], outputs=(0, 1)),
    call("max_pool2d_with_indices", floats(4, 6, 6), [3], [2], [1], outputs=(0, 1)),
    call("max_pool3d", VOLUME, [3], [2], [1]),
    call("max_pool3d_with_indices", VOLUME, [2, 2, 2], [2, 2, 2], outputs=(0, 1)),
    call("max_pool3d_with_indices", VOLUME, [2, 2, 2]),
    call("avg_pool2d", IMAGE, [3, 3], [2, 2], [1, 1], True, True, 5),
    call("avg_pool3d", VOLUME, [3, 2, 2], [2, 2, 2], [1, 0, 1], False, False),
    call("avg_pool3d", VOLUME, [2], [3], [0], True, True), call("avg_pool3d", VOLUME[0], [2]),
    call("avg_pool3d", VOLUME, [2], [2], [1], False, True, 3),
    call("adaptive_avg_pool3d", VOLUME, [2, 3, 1]), call("_adaptive_avg_pool3d", VOLUME, [5, 2, 2]),
    call("avg_pool1d", SEQUENCE, [3], [2], [1]), call("avg_pool2d", IMAGE, [3, 3], [2, 2], [1, 1]),
    call("avg_pool2d", IMAGE, [3, 3], [2, 2], [1, 1], True, False),
    call("avg_pool2d", IMAGE, [2, 2], [3, 3], [0, 0], True),
    call("adaptive_avg_pool1d", SEQUENCE, [3]), call("adaptive_avg_pool2d", IMAGE, [1, 1]),
    call("adaptive_avg_pool2d", INFINITE, [4, 6]), call("adaptive_avg_pool2d", INFINITE, [5, 3]),
    call("adaptive_avg_pool2d", IMAGE, [3, 2]), call("_adaptive_avg_pool2d", IMAGE, [4, 5]),
    call("adaptive_max_pool2d", IMAGE, [3, 2], outputs=(0, 1)),
    call("adaptive_max_pool2d", IMAGE, [4, 5]), call("adaptive_max_pool1d", SEQUENCE, [4]),
    call("adaptive_max_pool1d", SEQUENCE[0], [3]), call("adaptive_max_pool3d", VOLUME, [5, 3, 3]),
    *(call(f"{name}.vec", IMAGE, size, scale) for name in (
        "upsample_nearest2d", "_upsample_nearest_exact2d")
      for size, scale in ((None, [2.0, 2.0]), ([9, 7], None))),
    *(call(f"{name}.vec", SEQUENCE, [13], None) for name in (
        "upsample_nearest1d", "_upsample_nearest_exact1d")),
    *(call(name, IMAGE, [12, 9]) for name in ("upsample_nearest2d", "_upsample_nearest_exact2d")),
    *(call(name, SEQUENCE, [12]) for name in ("upsample_nearest1d", "_upsample_nearest_exact1d")),
    *(call(f"{name}.vec", IMAGE, size, align, scale)
      for name in ("upsample_bilinear2d", "upsample_bicubic2d")
      for size, align, scale in ((None, False, [2.0, 1.5]), ([9, 4], True, None))),
    *(call(name, IMAGE, [9, 4], False) for name in ("upsample_bilinear2d", "upsample_bicubic2d")),
    call("upsample_linear1d.vec", SEQUENCE, [13], False, None),
    *(call(f"{name}.vec", SEQUENCE[..., :3], None, [scale])
      for name in ("upsample_nearest1d", "_upsample_nearest_exact1d") for scale in (2.3, 1.3)),
    *(call(f"{name}.vec", IMAGE[..., :3, :3], None, False, [scale] * 2)
      for name in ("upsample_bilinear2d", "upsample_bicubic2d") for scale in (2.3, 1.3)),
    call("_upsample_nearest_exact1d.vec", floats(1, 1, 30), None, [1.3]),
    call("upsample_nearest2d.vec", INFINITE, [9, 7], None),
    call("_upsample_nearest_exact2d.vec", INFINITE, [9, 7], None),
    *(call("grid_sampler_2d", floats(2, 3, 5, 4), floats(2, 3, 2, 2), mode, padding, align)
      for mode in (0, 1, 2) for padding in (0, 1, 2) for align in (False, True)),
    call("grid_sampler", IMAGE, floats(1, 3, 2, 2) / 2, 0, 0, False),
    call("im2col", IMAGE, [3, 2], [1, 2], [1, 0], [2, 1]),
    call("im2col", IMAGE[0], [2, 2], [1, 1], [0, 0], [2, 2]),
    call("col2im", floats(2, 18, 15), [6, 5], [3, 2], [1, 2], [1, 1], [2, 1]),
    call("col2im", floats(8, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]),
    call("pixel_shuffle", IMAGE, 2), call("pixel_unshuffle", IMAGE, 3),
]  # fmt: skip

MOVEMENT = [
    *(call(name, X, [4, 6]) for name in ("view", "_unsafe_view", "reshape")),
    call("unsqueeze", X, -2), call("squeeze.dim", floats(2, 1), 1),
    call("squeeze", floats(1, 3, 1)), call("squeeze.dims", floats(1, 3, 1), [0, 1]),
    call("permute", X, [2, 0, -2]), call("transpose.int", X, 0, -1), call("t", floats(3, 4)),
    call("expand", ROW, [3, -1]), call("repeat", X, [2, 1, 1, 3]), call("cat", [X, Y, Z], 1),
    call("stack", [X, Y], -1), call("slice.Tensor", X, -1, 1, 100, 2),
    call("slice.Tensor", X, 1, -2, -1), call("select.int", X, 1, -1),
    call("split_with_sizes", X, [1, 3], -1, outputs=(0, 1)), call("unbind.int", X, 1),
    call("flip", X, [0, -1]), call("roll", X, [1, -2], [1, 2]), call("roll", X, [5]),
    call("slice_scatter", X, floats(2, 1, 4), 1, 1, 2),
    call("slice_scatter", X, floats(2, 3, 2), 2, 1, 4, 2),
    call("select_scatter", X, floats(2, 4), 1, 2),
    call("copy", X, ROW), call("fill.Scalar", X, 3),
    call("fill.Tensor", X, Known(torch.tensor(2.))),
    call("full_like", X, 3.5), call("zeros_like", X), call("ones_like", X, dtype=torch.int64),
    call("constant_pad_nd", X, [1, 2, -1, 0], 3.0), call("reflection_pad1d", SEQUENCE, [2, 3]),
    call("reflection_pad2d", IMAGE, [1, 2, 3, 0]), call("replication_pad1d", SEQUENCE, [2, 3]),
    call("replication_pad2d", IMAGE, [1, 2, 3, 0]),
    *(call(name, VOLUME, [1, 2, 0, 1, 2, 3]) for name in ("reflection_pad3d", "replication_pad3d")),
    call("tril", X, 1), call("triu", X, -1),
    call("diagonal", X, 0, 1, 2), call("diagonal", X, 1, 0, 2), call("diagonal", X, -1, 2, 1),
    call("as_strided", X, [2, 3], [4, 2], 1), call("unfold", X, 2, 2, 1),
    call("unfold", floats(), 0, 1, 1),
]  # fmt: skip

REDUCTION = [
    *(call(name, X, [0, -1], keep) for name in ("mean.dim", "sum.dim_IntList", "amax", "amin")
      for keep in (False, True)),
    *(call(name, X) for name in ("mean", "sum", "prod", "max", "min", "any", "all")),
    call("sum.dim_IntList", Z, None), call("prod.dim_int", X, 1), call("sum", B),
    *(call(name, X, 1, outputs=(0, 1)) for name in ("max.dim", "min.dim")),
    *(call(name, X, dim) for name in ("argmax", "argmin") for dim in (None, -1)),
    *(call(f"{name}.dim", B, 1) for name in ("any", "all")),
    *(call(f"{name}.dims", X, [0, 1], True) for name in ("any", "all")),
    call("var.dim", X, [1]), call("var.dim", X, [0, 2], False, True),
    call("var.correction", X, [1], correction=0), call("var.correction", X, None),
    *(call("linalg_vector_norm", X, order, [1])
      for order in (2, 1, 0, 3.5, float("inf"), -float("inf"))),
    *(call("_cdist_forward", floats(2, 3, 4), floats(2, 5, 4), p, None) for p in (0, 1, 2, 2.5)),
    *(call("_pdist_forward", floats(5, 3), p) for p in (2.0, 1.0)),
    *(call(name, x, *args, outputs=(0, 1))
      for x in (X, ints(3, 9, low=-2, high=2), torch.tensor([1, float("nan"), -2, float("inf")]))
      for name, args in (("sort", []), ("sort", [0, True]), ("topk", [2]), ("topk", [3, -1, False]))
      if not (name == "topk" and x.dtype == torch.int64)),
    call("sort", B, outputs=(0,)), call("sort.stable", B, stable=True, descending=True, dim=1),
    call("topk", ints(3, 9, low=-2, high=2), 4, outputs=(0,)),
    *(call("topk", torch.randperm(2600, generator=_dice).float(), 3, 0, largest, outputs=(0, 1))
      for largest in (True, False)),
    *(call("topk", LONG, 5, -1, largest, outputs=(0, 1)) for largest in (True, False)),
    *(call("topk", -LONG.abs(), 1, -1, largest, outputs=(0, 1)) for largest in (True, False)),
    call("topk", EXTREME, 5, -1, False),
    call("kthvalue", X, 2, 1, outputs=(0, 1)), call("kthvalue", X, 1, 0, True, outputs=(0, 1)),
    *(call("cumprod", x, dim) for x, dim in ((X, 1), (Z, -1), (floats(), 0))),
    *(call("logcumsumexp", x, dim) for x, dim in ((X * 30, 2), (floats(), 0))),
    *(call(name, x, dim, outputs=(0, 1))
      for name in ("cummax", "cummin")
      for x, dim in ((X, 1), (ints(2, 9, low=-2, high=2), 1), (floats(), 0),
                     (torch.tensor([1, float("nan"), 5, 2]), 0))),
    *(call("bucketize.Tensor", X, Known(torch.tensor([-1.0, 0, 0.5])), right=right)
      for right in (False, True)),
    call("searchsorted.Tensor", floats(2, 3, 7).sort()[0], X, side="right"),
    call("searchsorted.Tensor", Known(torch.tensor([-3, 0, 2, 2])), Z),
    call("cumsum", INFINITE, 3), call("cumsum", INFINITE, 1), call("cumsum", B, 2),
    call("cumsum", X, 1), call("cumsum", Z, -1), call("cumsum", ROW, 0),
]  # fmt: skip

PLACES = ints(2, 5, low=0, high=3)

INDEXING = [
    call("embedding", Known(floats(9, 4)), ints(2, 3, low=0)),
    call("embedding", floats(9, 4), PLACES),
    call("embedding_renorm", floats(9, 4), PLACES, 1.5, 2.0),
    call("index_select", X, -1, Known(torch.tensor([3, 0]))), call("index_select", X, 1, PLACES[0]),
    call("gather", X, 1, ints(2, 2, 4, low=0, high=3)),
    call("scatter.src", X, 1, Known(torch.tensor([[[0, 1, 2, 0]]])), floats(1, 1, 4)),
    call("scatter.value", X, 1, ints(1, 1, 4, low=0, high=3), 7.0),
    *(call("scatter_reduce.two", X, 2, ints(2, 3, 4, low=0, high=4), Y, kind)
      for kind in ("sum", "prod", "amax", "amin")),
    *(call("scatter_reduce.two", x, 2, ints(2, 3, 4, low=0, high=4), y, kind, include_self=include)
      for kind, include, x, y in (
          ("sum", False, X, Y), ("prod", False, X, Y), ("amax", False, X, Y), ("amin", False, Z, J),
          ("mean", True, X, Y), ("mean", False, X, Y), ("mean", True, Z, J))),
    call("scatter.reduce", X, 1, ints(1, 3, 4, low=0, high=3), Y, reduce="multiply"),
    call("scatter.value_reduce", X, 1, ints(1, 3, 4, low=0, high=3), 2.0, reduce="add"),
    call("scatter.value", floats(), 0, torch.tensor(0), 2.0),
    call("gather", floats(), 0, torch.tensor([0])), call("gather", ROW, 0, torch.tensor(2)),
    call("index_select", floats(), 0, torch.tensor([0])),
    call("scatter_add", X, 2, ints(2, 3, 4, low=0, high=4), Y),
    call("index.Tensor", X, [None, PLACES]), call("index.Tensor", X, [None, PLACES, PLACES]),
    call("index.Tensor", X, [Known(torch.tensor([1, 0, -1]))]),
    call("_embedding_bag", floats(9, 4), ints(6, low=0), Known(torch.tensor([0, 2])), False, 1),
    call("_embedding_bag_forward_only", floats(9, 4), ints(6, low=0), Known(torch.tensor([0, 2]))),
    *(call("_embedding_bag_forward_only", floats(9, 4), ints(6, low=0), offsets, False, mode,
           False, weights, last, padding)
      for mode, offsets, weights, last, padding in (
          (0, torch.tensor([0, 2, 2]), None, False, -1), (1, torch.tensor([0, 4]), None, False, 3),
          (2, torch.tensor([0, 1, 6, 6]), None, True, -1),
          (0, torch.tensor([0, 2]), floats(6), False, 2))),
    *(call("_embedding_bag_forward_only", ENDLESS, Known(torch.arange(6) % 4),
           torch.tensor([0, 1, 3, 3]), False, mode, False, weights, False, padding)
      for mode, weights, padding in ((0, None, -1), (1, None, 3), (2, None, -1),
                                     (0, POSITIVE.reshape(-1)[:6], 1))),
    call("one_hot", PLACES, 4), call("index_put", X, [Known(torch.tensor([1]))], floats(1, 3, 4)),
    call("index_put", X, [B], Known(torch.tensor(9.0))),
    call("index_put", X, [ints(5, low=0, high=2), None, ints(5, low=-4, high=4)], floats(5, 3),
         True),
    call("index_put", X, [None, Known(torch.tensor([[0], [2]])), Known(torch.tensor([1, 3]))],
         floats(2, 2, 2)),
    call("index_put", X, [Known(torch.tensor([1])), Known(torch.tensor([2, 0]))], floats(1, 4)),
    call("index_put", Z, [J > 5], Known(torch.tensor(3))),
    call("index_put", X, [None, ROW[:3] > 0], floats(1, 4)),
    call("index_put", X, [B], Known(torch.tensor([2.0])), True),
    call("index_put", X, [torch.tensor([True, False])], floats(1, 3, 4)),
    call("index_put", X.reshape(6, 4), [X.reshape(6, 4)[:, 0] > 0],
         floats(int((X.reshape(6, 4)[:, 0] > 0).sum()), 4)),
    call("index_put", X, [Known(B)], floats(int(B.sum()))),
    call("index.Tensor", X, [PLACES[0] % 2, None, Known(torch.tensor([1, -1, 0, 2, 3]))]),
    call("index.Tensor", X, [Known(torch.tensor([[0], [1]])), Known(torch.tensor([2, 0]))]),
    call("masked_scatter", X, B, Y), call("masked_scatter", X, ROW > 0, floats(40)),
]  # fmt: skip


def _parameters(gates: int, ways: int) -> list[Known]:
    sizes = [(5, 3), (5, 5 * ways)] if ways == 2 else [(5, 3)]
    shapes = [s for hidden, inputs in sizes for _ in range(ways)
              for s in ((gates * hidden, inputs), (gates * hidden, hidden), (gates * hidden,),
                        (gates * hidden,))]  # fmt: skip
    return [Known(floats(*s) / 2) for s in shapes]


def _recurrent(name: str, gates: int, ways: int, batch_first: bool) -> Case:
    count = 4 if ways == 2 else 1
    state = [floats(count, 2, 5) for _ in range(2)]
    x = floats(2, 4, 3) if batch_first else floats(4, 2, 3)
    return call(
        name, x, state if gates == 4 else state[0], _parameters(gates, ways), True,
        2 if ways == 2 else 1, 0.0, False, ways == 2, batch_first, outputs=(0, 1),
    )  # fmt: skip


P, Q = torch.complex(X, Y), torch.complex(Y, X)
SIGNAL = floats(2, 3, 10)

COMPLEX = [
    call("view_as_real", P), call("view_as_complex", floats(2, 3, 2)), call("complex", X, ROW),
    call("polar", X.abs(), Y), call("real", P), call("imag", P), call("angle", P),
    call("angle", X), call("_conj", P), call("_conj_physical", P), call("conj_physical", P),
    call("resolve_conj", P), call("abs", P), call("neg", P),
    *(call(f"{name}.Tensor", x, y)
      for name in ("add", "sub", "mul", "div")
      for x, y in ((P, Q), (P, X.abs() + 1), (P, P[0]))),
    call("mul.Tensor", X, P), call("add.Tensor", X, P), call("mul.Scalar", P, 2.5),
    call("cat", [P, Q], 1), call("permute", P, [2, 0, 1]), call("split_with_sizes", P, [1, 3], -1),
    call("where.self", B, P, Q), call("sum.dim_IntList", P, [1]),
    *(call("_fft_r2c", SIGNAL, dims, norm, onesided)
      for dims, norm, onesided in (([2], 0, True), ([1], 1, True), ([0, 2], 2, False))),
    *(call("_fft_c2c", torch.complex(SIGNAL, SIGNAL.flip(0)), dims, norm, forward)
      for dims, norm, forward in (([2], 0, True), ([1, 2], 2, False))),
    *(call("_fft_c2r", torch.fft.rfft(floats(3, size)), [1], norm, size)
      for size, norm in ((10, 2), (7, 0))),
    call("_fft_c2r", torch.fft.rfft2(floats(2, 4, 6)), [1, 2], 2, 6),
    call("_fft_c2r", torch.fft.rfft(floats(6)), [0], 2, 6),
]  # fmt: skip

BYTES = ints(2, 3, 4, low=-128, high=128).to(torch.int8)
SCALES, ZEROS = Known(torch.tensor([0.1, 0.02, 0.3])), Known(torch.tensor([0, 3, -5]))
RANGE = (-128, 127, torch.int8)


def quantized(name: str, *args: Any, outputs: tuple[int, ...] = (0,)) -> Case:
    return call(f"quantized_decomposed::{name}", *args, outputs=outputs)


QUANTIZED = [
    quantized("quantize_per_tensor", X, 0.02, 3, *RANGE),
    quantized("quantize_per_tensor", X, 0.01, 128, 0, 255, torch.uint8),
    quantized("quantize_per_tensor.tensor", X, torch.tensor([0.05]), torch.tensor([2]), *RANGE),
    quantized("quantize_per_tensor.tensor2", X,
              *map(Known, map(torch.tensor, (0.02, 3, -128, 127))), torch.int8),
    quantized("dequantize_per_tensor", BYTES, 0.02, 3, *RANGE),
    quantized("dequantize_per_tensor.tensor", BYTES, torch.tensor([0.5]), torch.tensor([2]),
              *RANGE),
    quantized("dequantize_per_tensor.tensor2", BYTES,
              *map(Known, map(torch.tensor, (0.02, 3, -128, 127))), torch.int8),
    quantized("quantize_per_channel", X, SCALES, ZEROS, 1, *RANGE),
    quantized("dequantize_per_channel", BYTES, SCALES, ZEROS, 1, *RANGE),
    quantized("dequantize_per_channel", Known(BYTES), SCALES, ZEROS, 1, *RANGE),
    *(quantized(f"choose_qparams{kind}.tensor", x, *RANGE[:2], 1e-6, torch.int8, outputs=(0, 1))
      for kind in ("", "_symmetric") for x in (X, POSITIVE + 3, -POSITIVE)),
]  # fmt: skip

RECURRENT = [
    _recurrent(name, gates, ways, batch_first)
    for name, gates in (
        ("lstm.input", 4), ("gru.input", 3), ("rnn_tanh.input", 1), ("rnn_relu.input", 1))
    for ways, batch_first in ((1, False), (2, True))
]  # fmt: skip

TOPICS = {
    "elementwise": ELEMENTWISE,
    "contraction": CONTRACTION,
    "normalization": NORMALIZATION,
    "pooling": POOLING,
    "movement": MOVEMENT,
    "reduction": REDUCTION,
    "indexing": INDEXING,
    "complex": COMPLEX,
    "quantized": QUANTIZED,
    "recurrent": RECURRENT,
}
"""The cases by topic; those of one topic are one program in the tests, which saves captures."""
