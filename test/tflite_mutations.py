"""TFLite models with random defects: of their bytes, their offsets and lengths, and their fields.

Needs ai-edge-litert, whose object API of the schema takes a model apart and puts it together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random
from typing import Any, cast

import numpy as np
from byte_mutations import cut, flip, splice
from onnx_support import SHARED
from tflite_graphs import Models
from tflite_models import Tensor, constant, model, schema

SMALL_FILES = ("tflm_hello_int8", "tflm_micro_speech_int8", "tflm_mnist_lstm_int8",
               "mlperf_kws_int8", "mlperf_kws_fp32", "mww_okay_nabu_stream")  # fmt: skip
FILE_SHARE = 0.25
"""Of the cases that start from a file; the others start from small models."""

NUMBERS = (-(2**31), -129, -2, -1, 0, 1, 2, 3, 4, 5, 16, 77, 255, 256, 2**16, 2**20, 2**31 - 1)
FLOATS = (0.0, -1.0, 1e-40, 1e-9, 1.0, 1e9, 3e38, float("inf"), float("nan"))
TEXTS = (b"", b"x0", b"main", b"\xff\xfe", b"a\nb", b"Add", b"a" * 300)
WORDS = (0, 1, 2, 4, 8, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


# What mutations start from


@cache
def seeds() -> tuple[bytes, ...]:
    """Small models: of one operator, of several subgraphs, with variables, sparse, custom."""
    from test_tflite_control import choice, counter, loop
    from test_tflite_custom import detection
    from test_tflite_reading import free, sparse, two_signatures, with_sparse_constant

    dense = np.eye(4, dtype=np.float32)
    larger = (
        choice(), choice(dtype="int8", scale=0.05, zero=3), choice(condition=True), loop(3),
        loop(4, 5.0), loop(None, 3.0), counter((True, False)), two_signatures(), free([-1, 4]),
        with_sparse_constant(dense, *sparse(dense, [0, 1, 2], (1, 2), [0, 1, 0])),
        detection(6, 3, quantized=True), _nested(),
    )  # fmt: skip
    return (*(model(*case[:4], **case[4]) for case in _operators()), *larger)


Case = tuple[str, Sequence[Tensor | None], Sequence[Tensor], str, dict[str, Any]]


def _operators() -> Iterator[Case]:
    """An operator each, of int8 and of floats."""
    for dtype, scale in (("int8", 0.05), ("float32", None)):
        yield from _products(dtype, scale)
        yield from _moves(dtype, scale)
        yield from _blocks(dtype, scale)
        yield from _indices(dtype, scale)
    yield from _plain()


def _products(dtype: str, scale: float | None) -> Iterator[Case]:
    def tensor(*shape: int) -> Tensor:
        return Tensor(shape, dtype, scale, 3 if scale else 0)

    def weight(*shape: int) -> Tensor:
        values = np.arange(np.prod(shape)).reshape(shape) % 7
        return constant(values, dtype, scale=None if scale is None else 0.01)

    bias = constant(range(4), "int32" if scale else dtype)
    image, window = tensor(1, 6, 6, 4), {"strideH": 1, "strideW": 1}
    yield ("CONV_2D", [image, weight(4, 3, 3, 4), bias], [image], "Conv2DOptions", window)
    yield ("DEPTHWISE_CONV_2D", [image, weight(1, 3, 3, 4), bias], [image],
           "DepthwiseConv2DOptions", window | {"depthMultiplier": 1})  # fmt: skip
    yield ("FULLY_CONNECTED", [tensor(2, 8), weight(4, 8), bias], [tensor(2, 4)],
           "FullyConnectedOptions", {})  # fmt: skip
    pool = window | {"filterHeight": 2, "filterWidth": 2}
    for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        yield code, [image], [image], "Pool2DOptions", pool
    yield "MEAN", [image, constant([1, 2])], [tensor(1, 4)], "ReducerOptions", {}
    for code, options in (("ADD", "AddOptions"), ("MUL", "MulOptions"), ("SUB", "SubOptions")):
        yield code, [tensor(2, 3), tensor(3)], [tensor(2, 3)], options, {}
    for code, options in (("SOFTMAX", "SoftmaxOptions"), ("LOGISTIC", ""), ("TANH", ""),
                          ("RELU", ""), ("HARD_SWISH", ""), ("LEAKY_RELU", "LeakyReluOptions"),
                          ("ABS", "")):  # fmt: skip
        if code == "SOFTMAX":
            y = Tensor((2, 8), dtype, None if scale is None else 1 / 256, -128 if scale else 0)
            yield code, [tensor(2, 8)], [y], options, {"beta": 1.0}
            continue
        yield code, [tensor(2, 8)], [tensor(2, 8)], options, {}
    other = Tensor((2, 8), "float32") if scale else Tensor((2, 8), "int8", 0.1, 1)
    code, options = ("DEQUANTIZE", "") if scale else ("QUANTIZE", "QuantizeOptions")
    yield code, [tensor(2, 8)], [other], options, {}


def _moves(dtype: str, scale: float | None) -> Iterator[Case]:
    def tensor(*shape: int) -> Tensor:
        return Tensor(shape, dtype, scale, 0)

    x = tensor(2, 3, 4)
    yield "RESHAPE", [x, constant([6, 4])], [tensor(6, 4)], "ReshapeOptions", {"newShape": [6, 4]}
    yield "TRANSPOSE", [x, constant([2, 0, 1])], [tensor(4, 2, 3)], "TransposeOptions", {}
    yield "SLICE", [x, constant([0, 1, 1]), constant([2, 2, 3])], [tensor(2, 2, 3)], "", {}
    strided = {"beginMask": 1, "endMask": 2}
    bounds = [constant([0, 2, 3]), constant([2, 0, 0]), constant([1, -1, -2])]
    yield "STRIDED_SLICE", [x, *bounds], [tensor(2, 3, 2)], "StridedSliceOptions", strided
    yield "PAD", [x, constant([[1, 0], [0, 2], [0, 0]])], [tensor(3, 5, 4)], "", {}
    yield ("SPLIT", [constant(2), x], [tensor(2, 3, 2)] * 2, "SplitOptions", {"numSplits": 2})
    yield "UNPACK", [x], [tensor(2, 4)] * 3, "UnpackOptions", {"axis": 1, "num": 3}
    yield "PACK", [x, x], [tensor(2, 2, 3, 4)], "PackOptions", {"axis": 1, "valuesCount": 2}
    yield "CONCATENATION", [x, x], [tensor(2, 3, 8)], "ConcatenationOptions", {"axis": 2}
    yield "TILE", [x, constant([1, 2, 3])], [tensor(2, 6, 12)], "", {}
    yield ("GATHER", [x, constant([2, 0])], [tensor(2, 2, 4)], "GatherOptions", {"axis": 1})
    yield ("RESIZE_NEAREST_NEIGHBOR", [tensor(1, 4, 4, 2), constant([8, 6])], [tensor(1, 8, 6, 2)],
           "ResizeNearestNeighborOptions", {})  # fmt: skip
    yield ("RESIZE_BILINEAR", [tensor(1, 4, 4, 2), constant([8, 6])], [tensor(1, 8, 6, 2)],
           "ResizeBilinearOptions", {})  # fmt: skip
    yield "REDUCE_MAX", [x, constant([1])], [tensor(2, 4)], "ReducerOptions", {}


def _blocks(dtype: str, scale: float | None) -> Iterator[Case]:
    def tensor(*shape: int) -> Tensor:
        return Tensor(shape, dtype, scale, 0)

    size = {"blockSize": 2}
    yield (
        "SPACE_TO_DEPTH",
        [tensor(1, 4, 6, 3)],
        [tensor(1, 2, 3, 12)],
        "SpaceToDepthOptions",
        size,
    )
    yield (
        "DEPTH_TO_SPACE",
        [tensor(1, 2, 3, 12)],
        [tensor(1, 4, 6, 3)],
        "DepthToSpaceOptions",
        size,
    )
    blocks = [constant([2, 3]), constant([[1, 0], [2, 1]])]
    yield "SPACE_TO_BATCH_ND", [tensor(1, 5, 6, 3), *blocks], [tensor(6, 3, 3, 3)], "", {}
    yield "BATCH_TO_SPACE_ND", [tensor(6, 3, 3, 3), *blocks], [tensor(1, 5, 6, 3)], "", {}
    edges = [tensor(2, 4), constant([[1, 0], [2, 3]])]
    yield "MIRROR_PAD", edges, [tensor(3, 9)], "MirrorPadOptions", {}
    yield "BROADCAST_TO", [tensor(1, 4), constant([3, 4])], [tensor(3, 4)], "", {}
    values = np.arange(4 * 3 * 3 * 2).reshape(4, 3, 3, 2) % 5
    weight = constant(values, dtype, scale=None if scale is None else 0.01)
    yield ("TRANSPOSE_CONV", [constant([1, 8, 8, 4]), weight, tensor(1, 4, 4, 2)],
           [tensor(1, 8, 8, 4)], "TransposeConvOptions", {"strideH": 2, "strideW": 2})  # fmt: skip
    yield ("BATCH_MATMUL", [tensor(2, 3, 4), tensor(2, 4, 5)], [tensor(2, 3, 5)],
           "BatchMatMulOptions", {})  # fmt: skip
    slope = constant([[[1, 2, 3]]], dtype, scale=None if scale is None else 0.1)
    yield "PRELU", [tensor(1, 2, 2, 3), slope], [tensor(1, 2, 2, 3)], "", {}
    for code in ("MAXIMUM", "MINIMUM"):
        yield code, [tensor(2, 3), tensor(3)], [tensor(2, 3)], "MaximumMinimumOptions", {}
    yield "LESS", [tensor(2, 3), tensor(2, 3)], [Tensor((2, 3), "bool")], "LessOptions", {}


def _indices(dtype: str, scale: float | None) -> Iterator[Case]:
    def tensor(*shape: int) -> Tensor:
        return Tensor(shape, dtype, scale, 0)

    def ints(*shape: int) -> Tensor:
        return Tensor(shape, "int32")

    yield "ARG_MAX", [tensor(2, 5), constant(1)], [ints(2)], "ArgMaxOptions", {"outputType": 2}
    yield "TOPK_V2", [tensor(2, 5), constant(3)], [tensor(2, 3), ints(2, 3)], "TopKV2Options", {}
    yield "GATHER_ND", [tensor(3, 4), constant([[0, 1], [2, 3]])], [tensor(2)], "", {}
    yield "GATHER", [tensor(3, 4), ints(2)], [tensor(2, 4)], "GatherOptions", {}
    yield "REVERSE_V2", [tensor(2, 3), constant([1])], [tensor(2, 3)], "", {}
    update = [tensor(4, 4), tensor(2, 2), constant([1, 2])]
    yield "DYNAMIC_UPDATE_SLICE", update, [tensor(4, 4)], "", {}
    mask = Tensor((2, 3), "bool")
    yield "SELECT_V2", [mask, tensor(2, 3), tensor(2, 3)], [tensor(2, 3)], "", {}
    scattered = [constant([[1], [3]]), tensor(2, 3), constant([5, 3])]
    if scale is None:
        yield "SCATTER_ND", scattered, [tensor(5, 3)], "ScatterNdOptions", {}


def _plain() -> Iterator[Case]:
    """Operators of floats, numbers and truth values."""
    x = Tensor((2, 3), "float32")
    for code in ("EXP", "SQRT", "RSQRT", "FLOOR", "SIN"):
        yield code, [x], [x], "", {}
    for code, options in (("CUMSUM", "CumsumOptions"), ("SUM", "ReducerOptions")):
        axis = constant(1) if code == "CUMSUM" else constant([1])
        yield code, [x, axis], [x if code == "CUMSUM" else Tensor((2,), "float32")], options, {}
    hot = [Tensor((3,), "int32"), constant(4), constant(1, "float32"), constant(0, "float32")]
    yield "ONE_HOT", hot, [Tensor((3, 4), "float32")], "OneHotOptions", {"axis": -1}
    yield "CAST", [x], [Tensor((2, 3), "int32")], "CastOptions", {"inDataType": 0, "outDataType": 2}
    both = Tensor((4,), "bool")
    yield "LOGICAL_OR", [both, both], [both], "", {}
    numbers = Tensor((4,), "int32")
    yield "FLOOR_DIV", [numbers, numbers], [numbers], "", {}


def _nested() -> bytes:
    """Subgraphs that call each other, twice each: what is written out doubles with each."""
    m = Models()
    graphs = [m.graph(f"g{k}") for k in range(5)]
    for k, graph in enumerate(graphs):
        x = graph.input((2,), "float32")
        if k + 1 == len(graphs):
            graph.returns(graph.op("ABS", [x], [graph.tensor((2,), "float32")]))
            continue
        for _ in range(2):
            x = graph.op(
                "CALL", [x], [graph.tensor((2,), "float32")], "CallOptions", subgraph=k + 1
            )
        graph.returns(x)
    return m.bytes()


@cache
def files() -> tuple[bytes, ...]:
    """Small models as they come from converters."""
    paths = [SHARED / "models" / f"{name}.tflite" for name in SMALL_FILES]
    return tuple(path.read_bytes() for path in paths if path.is_file())


def mutant(number: int) -> bytes:
    """The model of a case."""
    random = Random(number)
    known = files() if random.random() < FILE_SHARE else ()
    data = random.choice(known or seeds())
    kinds: Sequence[Callable[[Random, bytes], bytes]] = (
        flip, cut, splice, _word, _word, _word, _field, _field, _field, _field,
    )  # fmt: skip
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(kinds)(random, data)
    return data


# Bytes


def _word(random: Random, data: bytes) -> bytes:
    """Numbers of 32 bits that can be offsets or lengths, a little or very different."""
    content = bytearray(data)
    places = [k for k in range(0, len(content) - 3, 4) if _is_small(content, k)]
    for _ in range(random.choice((1, 1, 2, 4)) if places else 0):
        place = random.choice(places)
        (value,) = struct.unpack_from("<I", content, place)
        near = value + random.choice((-8, -4, -1, 1, 4, 8, 64, len(data)))
        found = near if random.random() < 0.5 else random.choice(WORDS)
        struct.pack_into("<I", content, place, found & 0xFFFFFFFF)
    return bytes(content)


def _is_small(content: bytearray, place: int) -> bool:
    """Whether a word is not zero, and no more than the length of the file."""
    (value,) = struct.unpack_from("<I", content, place)
    return 0 < abs(value if value < 1 << 31 else value - (1 << 32)) <= len(content)


# Fields


def _field(random: Random, data: bytes) -> bytes:
    """One field of one table changed; the bytes as they are where they are no model."""
    import flatbuffers

    try:
        found: Any = schema().ModelT.InitFromPackedBuf(data, 0)
        tables = list(_tables(found))
        _change(random, random.choice(tables))
        builder = flatbuffers.Builder(1024)
        builder.Finish(found.Pack(builder), b"TFL3")
        return bytes(builder.Output())
    except Exception:  # a file that is none, or fields that none can have
        return data


def _tables(table: Any) -> Iterator[Any]:
    """A table and all inside it."""
    yield table
    for value in vars(table).values():
        for inner in cast("list[Any]", value if isinstance(value, list) else [value]):
            if hasattr(inner, "Pack"):
                yield from _tables(inner)


def _change(random: Random, table: Any) -> None:
    fields: dict[str, Any] = vars(table)
    present = [name for name, value in fields.items() if value is not None]
    name = random.choice(present or list(fields))
    if random.random() < 0.1:
        setattr(table, name, None if not isinstance(fields[name], int | float) else 0)
    else:
        setattr(table, name, _changed(random, fields[name]))


def _changed(random: Random, value: Any) -> Any:
    """A value that a field with this one can have, and most likely should not."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((*NUMBERS, value + 1, value - 1, random.randrange(160)))
    if isinstance(value, float):
        return random.choice(FLOATS)
    if isinstance(value, bytes | str):
        return random.choice(TEXTS)
    if isinstance(value, list | np.ndarray):
        return _changed_list(random, list(cast("list[Any]", value)))
    if hasattr(value, "Pack"):
        _change(random, value)
    return value


def _changed_list(random: Random, entries: list[Any]) -> list[Any]:
    """Leave out, repeat, exchange or replace an element."""
    kind = random.choice(("drop", "repeat", "swap", "value", "value"))
    if not entries:
        return entries
    k, j = random.randrange(len(entries)), random.randrange(len(entries))
    if kind == "drop":
        del entries[k]
    elif kind == "repeat":
        entries.insert(j, entries[k])
    elif kind == "swap":
        entries[k], entries[j] = entries[j], entries[k]
    else:
        item = entries[k]
        plain = item.item() if isinstance(item, np.generic) else item
        entries[k] = _changed(random, plain)
    return entries
