"""One-node ONNX models of what onnxruntime's optimizer and quantizers write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx_cases import MICROSOFT, Array, Case, bools, floats, i64, ints, scalar


def microsoft(
    name: str,
    inputs: Sequence[Array | None],
    constants: Sequence[int] = (),
    *,
    outputs: int = 1,
    result: str = "float32",
    label: str = "",
    tolerance: float = 1e-4,
    **attributes: Any,
) -> Case:
    return Case(
        name, inputs, attributes, constants, outputs, domain=MICROSOFT, label=label,
        result=result, tolerance=tolerance,
    )  # fmt: skip


def half(*shape: int, **how: Any) -> Array:
    return floats(*shape, **how).astype(np.float16)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


def u8(*shape: int) -> Array:
    return ints(*shape, low=0, high=255, dtype=np.uint8)


def places(*shape: int, high: int = 9) -> Array:
    return ints(*shape, low=0, high=high, dtype=np.int64)


IMAGE, KERNEL, BIAS = floats(1, 4, 6, 6), floats(5, 4, 3, 3), floats(5)
CONV = [IMAGE, KERNEL, BIAS]
GEMM = [floats(3, 4), floats(4, 5), floats(5)]

FUSED = [
    *[microsoft("FusedConv", CONV, label=name, activation=name)
      for name in ("Relu", "Tanh", "Sigmoid")],
    *[microsoft("FusedConv", CONV, label=name, activation=name, activation_params=parameters)
      for name, parameters in (
          ("LeakyRelu", [0.2]), ("Clip", [0.0, 6.0]), ("HardSigmoid", [0.2, 0.5]),
      )],
    microsoft("FusedConv", [*CONV, floats(1, 5, 4, 4)], label="sum", activation="Relu"),
    microsoft("FusedGemm", GEMM, activation="Relu"),
    microsoft("FusedGemm", GEMM, label="leaky", activation="LeakyRelu", activation_alpha=0.3),
    microsoft("FusedMatMul", [floats(2, 4, 3), floats(2, 5, 4)], label="both", transA=1, transB=1),
    microsoft("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], label="batch", transBatchA=1),
    microsoft("TransposeMatMul", [floats(2, 4, 3), floats(2, 4, 5)], transA=1),
    microsoft("NhwcMaxPool", [u8(1, 6, 6, 4)], result="uint8", kernel_shape=[2, 2],
              strides=[2, 2]),
]  # fmt: skip

TOKENS, WIDTH = floats(2, 3, 8), floats(8)
SKIPPED = [TOKENS, floats(2, 3, 8, seed=1)]
TABLES = [floats(10, 8), floats(6, 8)]

NORMALIZED = [
    microsoft("SkipLayerNormalization", [*SKIPPED, WIDTH, WIDTH, WIDTH], epsilon=1e-5),
    microsoft("SkipLayerNormalization", [*SKIPPED, WIDTH], label="no bias"),
    microsoft("SkipLayerNormalization", [TOKENS, floats(1, 3, 8), WIDTH], label="broadcast"),
    microsoft("SkipLayerNormalization", [half(2, 3, 8), half(2, 3, 8, seed=1), half(8), half(8)],
              label="float16", result="float16", tolerance=4e-3),
    microsoft("SkipSimplifiedLayerNormalization", [*SKIPPED, WIDTH, WIDTH], epsilon=1e-5),
    Case("SimplifiedLayerNormalization", [TOKENS, WIDTH], {"epsilon": 1e-5}, result="float32",
         tolerance=1e-4),
    Case("LayerNormalization", [TOKENS, WIDTH, WIDTH], {"axis": -1}, opset=13, result="float32",
         tolerance=1e-4, label="early"),
    Case("GroupNormalization", [floats(2, 4, 5, 6), floats(2), floats(2)], {"num_groups": 2},
         opset=18, result="float32", tolerance=1e-4, label="by group"),
    microsoft("FastGelu", [TOKENS]),
    microsoft("FastGelu", [TOKENS, WIDTH], label="bias"),
    microsoft("EmbedLayerNormalization",
              [ints(2, 4, low=0), ints(2, 4, low=0, high=1), *TABLES, floats(2, 8), WIDTH, WIDTH,
               ints(2, 4, low=0, high=1)], outputs=2),
    microsoft("EmbedLayerNormalization",
              [ints(2, 4, low=0), None, *TABLES, None, WIDTH, WIDTH], label="words", outputs=2),
    microsoft("EmbedLayerNormalization",
              [ints(2, 4, low=0), None, *TABLES, None, WIDTH, WIDTH, None,
               ints(2, 4, low=0, high=5)], label="positions", outputs=2),
]  # fmt: skip

Q, K, V = (floats(2, n, 32, seed=k) for k, n in enumerate((5, 6, 6)))
K5, V5 = floats(2, 5, 32, seed=2), floats(2, 5, 32, seed=3)
PAST = [floats(2, 4, 3, 8, seed=5), floats(2, 4, 3, 8, seed=6)]
MASK = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], np.int32)
HOLES = np.array([[0, 0, 1, 1, 0], [0, 0, 0, 0, 0]], np.int32)
ALL = floats(32, 96, low=-0.3, high=0.3)
TURNS = [floats(10, 4), floats(10, 4)]
TURNS_16 = [floats(10, 8), floats(10, 8)]
CACHE = [floats(2, 2, 7, 16), floats(2, 2, 7, 16, seed=8)]
NEW = [floats(2, 1, 64), floats(2, 1, 32, seed=2), floats(2, 1, 32, seed=3)]


def multi_head(label: str, inputs: Sequence[Array | None], **how: Any) -> Case:
    return microsoft("MultiHeadAttention", inputs, label=label, num_heads=4, **how)


def self_attention(label: str, inputs: Sequence[Array | None], **how: Any) -> Case:
    return microsoft("Attention", [Q, *inputs], label=label, num_heads=4, **how)


def grouped(label: str, inputs: Sequence[Array | None], **how: Any) -> Case:
    return microsoft("GroupQueryAttention", inputs, (6,), label=label, num_heads=4,
                     kv_num_heads=2, outputs=3, **how)  # fmt: skip


ATTENTION = [
    multi_head("plain", [Q, K, V]),
    multi_head("scale", [Q, K, V], scale=0.2),
    multi_head("bias", [Q, K, V, floats(96)]),
    multi_head("mask", [Q, K, V, None, MASK]),
    multi_head("lengths", [Q, K, V, None, i32(4, 6)]),
    multi_head("terms", [Q, K, V, None, None, floats(2, 4, 5, 6)]),
    multi_head("one term", [Q, K, V, None, None, floats(1, 1, 5, 6)]),
    multi_head("causal", [Q, K5, V5], unidirectional=1),
    multi_head("causal mask", [Q, K5, V5, None, HOLES], unidirectional=1),
    multi_head("past", [Q, K5, V5, None, None, None, *PAST], outputs=3),
    multi_head("causal past", [Q, K5, V5, None, None, None, *PAST], unidirectional=1, outputs=3),
    multi_head("heads apart", [Q, floats(2, 4, 6, 8), floats(2, 4, 6, 8, seed=9)]),
    self_attention("plain", [ALL, floats(96)]),
    self_attention("mask", [ALL, floats(96), MASK[:, 1:].copy()]),
    self_attention("lengths", [ALL, floats(96), i32(3, 5)]),
    self_attention("mask of queries", [ALL, floats(96), bools(2, 5, 5).astype(np.int32)]),
    self_attention("causal", [ALL, floats(96)], unidirectional=1),
    self_attention("causal mask", [ALL, floats(96), HOLES], unidirectional=1),
    self_attention("causal mask and terms", [ALL, floats(96), HOLES, None, floats(1, 4, 5, 5)],
                   unidirectional=1, mask_filter_value=-100.0),
    self_attention("causal mask of queries", [ALL, floats(96), bools(2, 5, 5).astype(np.int32)],
                   unidirectional=1),
    self_attention("causal lengths", [ALL, floats(96), i32(0, 3)], unidirectional=1,
                   mask_filter_value=float(np.finfo(np.float32).min)),
    self_attention("causal, another number", [ALL, floats(96)], unidirectional=1,
                   mask_filter_value=-0.5),
    self_attention("past", [ALL, floats(96), None, floats(2, 2, 4, 3, 8)], outputs=2),
    self_attention("terms", [ALL, floats(96), None, None, floats(2, 4, 5, 5)]),
    self_attention("sizes", [ALL[:, :80].copy(), floats(80)], qkv_hidden_sizes=[32, 32, 16]),
    microsoft("RotaryEmbedding", [Q, i64(2), *TURNS], label="offset"),
    microsoft("RotaryEmbedding", [Q, places(2, 5), *TURNS], label="places"),
    microsoft("RotaryEmbedding", [floats(2, 4, 5, 8), places(2, 5), *TURNS], label="interleaved",
              interleaved=1),
    microsoft("RotaryEmbedding", [Q, places(2, 5), floats(10, 2), floats(10, 2)], label="partial",
              num_heads=4, rotary_embedding_dim=4),
    grouped("prompt", [Q, floats(2, 5, 16, seed=2), floats(2, 5, 16, seed=3), None, None,
                       i32(4, 4), scalar(5, np.int32)]),
    grouped("decode", [*NEW, *CACHE, i32(7, 7), scalar(8, np.int32)]),
    grouped("rotary", [*NEW, *CACHE, i32(7, 7), scalar(8, np.int32), *TURNS_16], do_rotary=1),
    grouped("window", [floats(2, 5, 128), None, None, None, None, i32(4, 4), scalar(5, np.int32),
                       *TURNS_16], do_rotary=1, local_window_size=3, softcap=5.0),
    grouped("float16", [half(2, 5, 32), half(2, 5, 16, seed=2), half(2, 5, 16, seed=3), None,
                        None, i32(4, 4), scalar(5, np.int32)], result="float16", tolerance=4e-3),
]  # fmt: skip

STORED = [u8(1, 4, 6, 6), scalar(0.02), scalar(120, np.uint8)]
LAST = [np.ascontiguousarray(STORED[0].transpose(0, 2, 3, 1)), *STORED[1:]]
TO = [scalar(0.03), scalar(60, np.uint8)]
S8 = ints(4, 5, low=-127, high=127, dtype=np.int8)
FEW = [u8(6, 2, 8), floats(12, low=0.01, high=0.1)]

INTEGERS = [
    microsoft("MatMulNBits", [floats(2, 32), *FEW], (1, 2), K=32, N=6, bits=4, block_size=16),
    microsoft("MatMulNBits", [floats(2, 3, 32), *FEW, u8(6)], (1, 2, 3), label="zero points",
              K=32, N=6, bits=4, block_size=16),
    microsoft("MatMulNBits", [floats(2, 40), u8(6, 3, 8), floats(18, low=0.01, high=0.1), u8(12),
                              None, floats(6)], (1, 2, 3, 5), label="bias", K=40, N=6, bits=4,
              block_size=16),
    microsoft("MatMulNBits", [floats(2, 32), u8(6, 2, 16), FEW[1]], (1, 2), label="8 bits", K=32,
              N=6, bits=8, block_size=16),
    microsoft("MatMulNBits", [half(2, 32), FEW[0], half(12, low=0.01, high=0.1)], (1, 2),
              label="float16", result="float16", tolerance=4e-3, K=32, N=6, bits=4, block_size=16),
    *[microsoft("GatherBlockQuantized",
                [u8(6, width), i64(1, 3), floats(6, 2, low=0.01, high=0.1)], (0, 2),
                label=f"{bits} bits", bits=bits, block_size=16, quantize_axis=1)
      for bits, width in ((4, 16), (8, 32))],
    microsoft("DynamicQuantizeMatMul", [floats(3, 4), S8, scalar(0.02), scalar(0, np.int8), BIAS],
              (1, 2, 3, 4)),
    microsoft("DynamicQuantizeMatMul", [floats(2, 3, 4), S8.view(np.uint8), scalar(0.02),
                                        scalar(120, np.uint8)], (1, 2, 3), label="uint8"),
    microsoft("MatMulIntegerToFloat", [u8(3, 4), S8, scalar(0.03), scalar(0.02),
                                       scalar(120, np.uint8), scalar(0, np.int8), BIAS],
              (1, 2, 3, 4, 5, 6)),
    microsoft("MatMulIntegerToFloat", [u8(3, 4), S8, scalar(0.03), floats(5, low=0.01, high=0.1),
                                       scalar(120, np.uint8)], (1, 3), label="run-time parameters"),
    microsoft("QAttention", [u8(2, 5, 32), ints(32, 96, low=-99, high=99, dtype=np.int8),
                             floats(96), scalar(0.02), scalar(0.01), None, scalar(120, np.uint8),
                             scalar(0, np.int8)], (1, 2, 3, 4, 6, 7), num_heads=4),
    microsoft("QLinearWhere", [bools(1, 4, 6, 6), *STORED, *STORED, *TO], (2, 3, 5, 6, 7, 8),
              result="uint8"),
    microsoft("QLinearConv", [*LAST, ints(5, 4, 3, 3, low=-127, high=127, dtype=np.int8),
                              scalar(0.01), scalar(0, np.int8), *TO], range(1, 8),
              label="channels last", result="uint8", channels_last=1),
    microsoft("QLinearAveragePool", [*LAST, *TO], (1, 2, 3, 4), label="channels last",
              result="uint8", kernel_shape=[2, 3], channels_last=1),
    microsoft("QLinearGlobalAveragePool", [*LAST, *TO], (1, 2, 3, 4), label="channels last",
              result="uint8", channels_last=1),
    microsoft("QLinearLeakyRelu", [*STORED[:2], None, *TO], (1, 3, 4), label="no zero point",
              result="uint8"),
]  # fmt: skip

ALIASES = [
    microsoft("GatherND", [floats(4, 5), i64(0, 1, 3, 2).reshape(2, 2)], label="microsoft"),
    microsoft("ExpandDims", [TOKENS, scalar(1, np.int32)], (1,)),
    microsoft("Trilu", [floats(3, 4)], label="microsoft"),
    microsoft("Pad", [TOKENS, i64(0, 1, 0, 0, 0, 2), scalar(1.5)], (1, 2), label="microsoft"),
    microsoft("Range", [scalar(1), scalar(7), scalar(2)], (0, 1, 2), label="microsoft"),
    microsoft("CDist", [floats(3, 4), floats(5, 4)], metric="sqeuclidean"),
    microsoft("CDist", [floats(3, 4), floats(5, 4)], label="root", metric="euclidean"),
]

MICROSOFT_CASES = [*FUSED, *NORMALIZED, *ATTENTION, *INTEGERS, *ALIASES]
