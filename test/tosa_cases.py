"""Functions of TOSA, an operation of the specification in each: text as MLIR writes it."""

# ruff: noqa: E501  (lines of MLIR are as long as they are)

from __future__ import annotations

import numpy as np

Q = "per_channel = false, scale32 = true, input_unsigned = false, output_unsigned = false"


def const(name, array):
    """A constant of a numpy array, by its elements."""
    array = np.asarray(array)
    kind = {"b": "i1", "f": "f32"}.get(array.dtype.kind, f"i{8 * array.dtype.itemsize}")
    form = "x".join([*map(str, array.shape), kind])
    values = str(array.tolist()).lower() if array.size else "[]"
    return f'%{name} = "tosa.const"() <{{values = dense<{values}> : tensor<{form}>}}> : () -> tensor<{form}>'


def shape(name, *sizes):
    """A list of sizes."""
    n = len(sizes)
    return (f"%{name} = tosa.const_shape {{values = dense<{list(sizes)}> : tensor<{n}xindex>}} : "
            f"() -> !tosa.shape<{n}>")  # fmt: skip


def function(arguments, body, result):
    """A function; `arguments` are types of %a, %b and so on."""
    names = ", ".join(f"%{n}: tensor<{t}>" for n, t in zip("abcd", arguments, strict=False))
    lines = "\n".join(f"  {line}" for line in body)
    return f"func.func @main({names}) -> tensor<{result}> {{\n{lines}\n  return %r : tensor<{result}>\n}}\n"


def i8(*values):
    return np.array(values, np.int8)


def i32(*values):
    return np.array(values, np.int32)


def weights(*sizes, seed=0):
    return np.random.default_rng(seed).integers(-127, 128, sizes).astype(np.int8)


def simple(name, arguments, result, attributes="", more=()):
    """An operation of the arguments alone."""
    names = ", ".join(f"%{n}" for n, _ in zip("abcd", arguments, strict=False))
    types = ", ".join(f"tensor<{t}>" for t in arguments)
    line = f"%r = tosa.{name} {names} {attributes} : ({types}) -> tensor<{result}>"
    return function(arguments, [*more, line], result)


def rescale(x, result, multiplier, shift, zero_in, zero_out, mode="SINGLE_ROUND", flags=Q):
    """A rescaling of the only argument."""
    source, target = x.rpartition("x")[2], result.rpartition("x")[2]
    ins = {"i8": np.int8, "i16": np.int16, "i32": np.int32}
    body = [
        const("m", i32(*multiplier)), const("s", i8(*shift)),
        const("zi", np.array([zero_in], ins[source])), const("zo", np.array([zero_out], ins[target])),
        f"%r = tosa.rescale %a, %m, %s, %zi, %zo {{rounding_mode = {mode}, {flags}}} : (tensor<{x}>, "
        f"tensor<{len(multiplier)}xi32>, tensor<{len(shift)}xi8>, tensor<1x{source}>, "
        f"tensor<1x{target}>) -> tensor<{result}>",
    ]  # fmt: skip
    return function([x], body, result)


def conv(name, x, w, result, pad, stride, dilation="1, 1", zeros=(3, -2), acc="i32"):
    """A convolution with constant weights and bias, channels last."""
    form = "x".join(map(str, w.shape)) + "xi8"
    channels = int(result.rpartition("x")[0].rpartition("x")[2])
    source = x.rpartition("x")[2]
    gaps = "" if name == "transpose_conv2d" else f"dilation = array<i64: {dilation}>, "
    border = "out_pad" if name == "transpose_conv2d" else "pad"
    kind = {"i8": np.int8, "i16": np.int16}[source]
    bias = np.random.default_rng(9).integers(-1000, 1000, channels)
    made = const("bias", bias.astype(np.int32)).replace("i32", acc)
    body = [
        const("w", w), made, const("zx", np.array([zeros[0]], kind)), const("zw", i8(zeros[1])),
        f"%r = tosa.{name} %a, %w, %bias, %zx, %zw {{acc_type = {acc}, {gaps}{border} = array<i64: {pad}>,"
        f" stride = array<i64: {stride}>}} : (tensor<{x}>, tensor<{form}>, tensor<{channels}x{acc}>, "
        f"tensor<1x{source}>, tensor<1xi8>) -> tensor<{result}>",
    ]  # fmt: skip
    return function([x], body, result)


def pool(x, result, kernel, stride, pad, zeros=(4, -9)):
    kind = {"i8": np.int8, "i16": np.int16}[x.rpartition("x")[2]]
    name = x.rpartition("x")[2]
    body = [
        const("zi", np.array([zeros[0]], kind)), const("zo", np.array([zeros[1]], kind)),
        f"%r = tosa.avg_pool2d %a, %zi, %zo {{acc_type = i32, kernel = array<i64: {kernel}>, pad = "
        f"array<i64: {pad}>, stride = array<i64: {stride}>}} : (tensor<{x}>, tensor<1x{name}>, "
        f"tensor<1x{name}>) -> tensor<{result}>",
    ]  # fmt: skip
    return function([x], body, result)


def with_shapes(name, x, result, operands, more, tail=""):
    """An operation with lists of sizes as operands."""
    names = ", ".join(f"%{n}" for n in operands)
    types = ", ".join(operands.values())
    line = f"%r = tosa.{name} %a, {names} {tail} : (tensor<{x}>, {types}) -> tensor<{result}>"
    return function([x], [*more, line], result)


def shift_right(amounts, rounds):
    body = [
        const("n", np.asarray(amounts, np.int32)),
        f"%r = tosa.arithmetic_right_shift %a, %n {{round = {rounds}}} : (tensor<2x5xi32>, "
        "tensor<1x5xi32>) -> tensor<2x5xi32>",
    ]
    return function(["2x5xi32"], body, "2x5xi32")


def resize(mode, x, result, scale, offset, border):
    more = [shape("s", *scale), shape("o", *offset), shape("b", *border)]
    operands = {"s": "!tosa.shape<4>", "o": "!tosa.shape<2>", "b": "!tosa.shape<2>"}
    return with_shapes("resize", x, result, operands, more, f"{{mode = {mode}}}")


def transform(name, arguments, part, attributes=""):
    """A Fourier transform; the imaginary parts behind the real ones."""
    names, types = "%a, %b"[: 4 * len(arguments) - 2], ", ".join(f"tensor<{t}>" for t in arguments)
    whole = "x".join([str(2 * int(part[0])), part[2:]])
    body = [
        f"%x, %y = tosa.{name} {names} {attributes} : ({types}) -> (tensor<{part}>, tensor<{part}>)",
        f"%r = tosa.concat %x, %y {{axis = 0 : i32}} : (tensor<{part}>, tensor<{part}>) -> tensor<{whole}>",
    ]
    return function(arguments, body, whole)


MUL = {
    f"mul_i32_shift{n}": function(
        ["4x6xi32", "1x6xi32"],
        [const("s", i8(n)),
         "%r = tosa.mul %a, %b, %s : (tensor<4x6xi32>, tensor<1x6xi32>, tensor<1xi8>) -> "
         "tensor<4x6xi32>"],
        "4x6xi32",
    )
    for n in (0, 1, 30)
}  # fmt: skip

CASES = {
    "conv3d": conv("conv3d", "1x4x5x6x2xi8", weights(3, 2, 3, 2, 2), "1x4x5x5x3xi32", "1, 0, 1, 1, 0, 0", "1, 1, 1", "1, 1, 1"),
    "conv3d_apart": conv("conv3d", "2x5x5x6x2xi8", weights(3, 2, 3, 2, 2), "2x2x3x2x3xi32", "0, 0, 1, 1, 0, 0", "2, 2, 3", "2, 1, 2"),
    "conv2d": conv("conv2d", "1x6x7x3xi8", weights(5, 3, 2, 3), "1x3x4x5xi32", "0, 1, 1, 0", "2, 2"),
    "conv2d_dilated": conv(
        "conv2d", "1x7x7x2xi8", weights(4, 3, 3, 2), "1x5x3x4xi32", "1, 1, 0, 0", "1, 1", "2, 2"
    ),
    "conv2d_1x1": conv("conv2d", "3x1x1x8xi8", weights(5, 1, 1, 8), "3x1x1x5xi32", "0, 0, 0, 0", "1, 1"),
    "conv2d_i16": conv(
        "conv2d", "1x4x4x2xi16", weights(3, 2, 2, 2), "1x3x3x3xi48", "0, 0, 0, 0", "1, 1",
        zeros=(0, 0), acc="i48",
    ),
    "depthwise_conv2d": conv(
        "depthwise_conv2d", "1x5x5x3xi8", weights(3, 3, 3, 2), "1x5x5x6xi32", "1, 1, 1, 1", "1, 1"
    ),
    "depthwise_of_ones": conv(
        "depthwise_conv2d", "1x5x5x3xi8", np.ones((2, 2, 3, 1), np.int8), "1x4x4x3xi32", "0, 0, 0, 0",
        "1, 1", zeros=(7, 0),
    ),
    "transpose_conv2d": conv(
        "transpose_conv2d", "1x3x4x2xi8", weights(3, 3, 2, 2), "1x7x8x3xi32", "0, 0, 0, 0", "2, 2"
    ),
    "transpose_conv2d_cropped": conv(
        "transpose_conv2d", "1x3x4x2xi8", weights(3, 3, 3, 2), "1x6x8x3xi32", "-1, 0, -1, 0", "2, 2"
    ),
    "matmul": function(
        ["2x3x4xi8", "2x4x5xi8"],
        [const("z", i8(5)), const("y", i8(-7)),
         "%r = tosa.matmul %a, %b, %z, %y : (tensor<2x3x4xi8>, tensor<2x4x5xi8>, tensor<1xi8>, "
         "tensor<1xi8>) -> tensor<2x3x5xi32>"],
        "2x3x5xi32",
    ),
    "avg_pool2d": pool("1x4x6x3xi8", "1x2x3x3xi8", "2, 2", "2, 2", "0, 0, 0, 0"),
    "avg_pool2d_same": pool("1x5x5x2xi8", "1x5x5x2xi8", "3, 3", "1, 1", "1, 1, 1, 1"),
    "avg_pool2d_7x7": pool("1x7x7x4xi8", "1x1x1x4xi8", "7, 7", "1, 1", "0, 0, 0, 0"),
    "avg_pool2d_i16": pool("1x4x4x2xi16", "1x2x2x2xi16", "2, 2", "2, 2", "0, 0, 0, 0", (0, 0)),
    "max_pool2d": simple(
        "max_pool2d", ["1x5x5x2xi8"], "1x3x3x2xi8",
        "{kernel = array<i64: 3, 3>, pad = array<i64: 1, 1, 1, 1>, stride = array<i64: 2, 2>}",
    ),
    "argmax": simple("argmax", ["3x7x2xi8"], "3x2xi32", "{axis = 1 : i32}"),
    "clamp": simple("clamp", ["3x7xi8"], "3x7xi8", "{min_val = -5 : i8, max_val = 60 : i8}"),
    "clamp_i16": simple("clamp", ["3x7xi16"], "3x7xi16", "{min_val = -5 : i16, max_val = 999 : i16}"),
    "abs": simple("abs", ["3x7xi32"], "3x7xi32"),
    "bitwise_not": simple("bitwise_not", ["3x7xi32"], "3x7xi32"),
    "bitwise_and": simple("bitwise_and", ["3x7xi32", "1x7xi32"], "3x7xi32"),
    "bitwise_or": simple("bitwise_or", ["3x7xi32", "1x7xi32"], "3x7xi32"),
    "bitwise_xor": simple("bitwise_xor", ["3x7xi32", "3x1xi32"], "3x7xi32"),
    "bitwise_and_i8": simple("bitwise_and", ["3x7xi8", "1x7xi8"], "3x7xi8"),
    "logical_and": simple("logical_and", ["3x7xi1", "1x7xi1"], "3x7xi1"),
    "logical_or": simple("logical_or", ["3x7xi1", "1x7xi1"], "3x7xi1"),
    "logical_xor": simple("logical_xor", ["3x7xi1", "1x7xi1"], "3x7xi1"),
    "logical_not": simple("logical_not", ["3x7xi1"], "3x7xi1"),
    "clz": simple("clz", ["3x7xi32"], "3x7xi32"),
    "maximum": simple("maximum", ["3x7xi32", "1x7xi32"], "3x7xi32"),
    "minimum": simple("minimum", ["3x7xi32", "1x7xi32"], "3x7xi32", "{nan_mode = IGNORE}"),
    "equal": simple("equal", ["3x7xi32", "1x7xi32"], "3x7xi1"),
    "greater": simple("greater", ["3x7xi32", "1x7xi32"], "3x7xi1"),
    "greater_equal": simple("greater_equal", ["3x7xi32", "1x7xi32"], "3x7xi1"),
    "select": simple("select", ["3x7xi1", "3x7xi8", "1x7xi8"], "3x7xi8"),
    "identity": simple("identity", ["3x7xi8"], "3x7xi8"),
    "reduce_all": simple("reduce_all", ["3x7xi1"], "3x1xi1", "{axis = 1 : i32}"),
    "reduce_any": simple("reduce_any", ["3x7xi1"], "1x7xi1", "{axis = 0 : i32}"),
    "reduce_max": simple("reduce_max", ["3x7xi8"], "3x1xi8", "{axis = 1 : i32}"),
    "reduce_min": simple("reduce_min", ["3x7xi32"], "3x1xi32", "{axis = 1 : i32}"),
    "reverse": simple("reverse", ["3x7xi8"], "3x7xi8", "{axis = 1 : i32}"),
    "transpose": simple("transpose", ["3x7x2xi8"], "2x3x7xi8", "{perms = array<i32: 2, 0, 1>}"),
    "concat": simple("concat", ["3x7xi8", "3x2xi8"], "3x9xi8", "{axis = 1 : i32}"),
    "cast_i8_i32": simple("cast", ["3x7xi8"], "3x7xi32"),
    "cast_i32_i8": simple("cast", ["3x7xi32"], "3x7xi8"),
    "cast_i32_i16": simple("cast", ["3x7xi32"], "3x7xi16"),
    "cast_i8_f32": simple("cast", ["3x7xi8"], "3x7xf32"),
    "cast_f32_i8": simple("cast", ["3x7xf32"], "3x7xi8"),
    "cast_f32_i32": simple("cast", ["3x7xf32"], "3x7xi32"),
    "cast_i1_i8": simple("cast", ["3x7xi1"], "3x7xi8"),
    "cast_i32_i1": simple("cast", ["3x7xi32"], "3x7xi1"),
    "negate_i8": function(
        ["3x7xi8"],
        [const("z", i8(5)), const("y", i8(-7)),
         "%r = tosa.negate %a, %z, %y : (tensor<3x7xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<3x7xi8>"],
        "3x7xi8",
    ),
    "table": function(
        ["3x7xi8"],
        [const("t", weights(256, seed=3)),
         "%r = tosa.table %a, %t : (tensor<3x7xi8>, tensor<256xi8>) -> tensor<3x7xi8>"],
        "3x7xi8",
    ),
    "table_i16": function(
        ["3x7xi16"],
        [const("t", np.cumsum(weights(513, seed=4).astype(np.int16), dtype=np.int16)),
         "%r = tosa.table %a, %t : (tensor<3x7xi16>, tensor<513xi16>) -> tensor<3x7xi32>"],
        "3x7xi32",
    ),
    "pad": with_shapes(
        "pad", "3x7xi8", "4x9xi8", {"p": "!tosa.shape<4>", "c": "tensor<1xi8>"},
        [shape("p", 1, 0, 0, 2), const("c", i8(-3))],
    ),
    "reshape": with_shapes(
        "reshape", "3x8xi8", "2x3x4xi8", {"s": "!tosa.shape<3>"}, [shape("s", 2, 3, 4)]
    ),
    "slice": with_shapes(
        "slice", "3x8xi8", "2x5xi8", {"s": "!tosa.shape<2>", "n": "!tosa.shape<2>"},
        [shape("s", 1, 2), shape("n", 2, 5)],
    ),
    "tile": with_shapes("tile", "3x2xi8", "6x6xi8", {"s": "!tosa.shape<2>"}, [shape("s", 2, 3)]),
    "gather": function(
        ["2x5x3xi8"],
        [const("i", np.array([[4, 0, 0], [1, 3, 2]], np.int32)),
         "%r = tosa.gather %a, %i : (tensor<2x5x3xi8>, tensor<2x3xi32>) -> tensor<2x3x3xi8>"],
        "2x3x3xi8",
    ),
    "scatter": function(
        ["2x5x3xi8", "2x2x3xi8"],
        [const("i", np.array([[4, 0], [1, 3]], np.int32)),
         "%r = tosa.scatter %a, %i, %b : (tensor<2x5x3xi8>, tensor<2x2xi32>, tensor<2x2x3xi8>) -> "
         "tensor<2x5x3xi8>"],
        "2x5x3xi8",
    ),
    "resize_nearest": resize("NEAREST_NEIGHBOR", "1x4x5x2xi8", "1x8x10x2xi8", (4, 2, 4, 2), (0, 0), (2, 2)),
    "resize_nearest_half": resize(
        "NEAREST_NEIGHBOR", "1x5x5x1xi8", "1x9x9x1xi8", (2, 1, 2, 1), (0, 0), (0, 0)
    ),
    "resize_bilinear": resize("BILINEAR", "1x4x5x2xi8", "1x8x10x2xi32", (4, 2, 4, 2), (-1, -1), (1, 1)),
    "resize_bilinear_i16": resize("BILINEAR", "1x4x5x2xi16", "1x8x10x2xi48", (4, 2, 4, 2), (-1, -1), (1, 1)),
    "resize_bilinear_aligned": resize(
        "BILINEAR", "1x3x3x1xi8", "1x7x7x1xi32", (6, 2, 6, 2), (0, 0), (0, 0)
    ),
    "logical_left_shift": function(
        ["2x5xi32"],
        [const("n", np.array([[0, 1, 7, 30, 31]], np.int32)),
         "%r = tosa.logical_left_shift %a, %n : (tensor<2x5xi32>, tensor<1x5xi32>) -> tensor<2x5xi32>"],
        "2x5xi32",
    ),
    "logical_right_shift": function(
        ["2x5xi32"],
        [const("n", np.array([[0, 1, 7, 30, 31]], np.int32)),
         "%r = tosa.logical_right_shift %a, %n : (tensor<2x5xi32>, tensor<1x5xi32>) -> tensor<2x5xi32>"],
        "2x5xi32",
    ),
    "right_shift": shift_right([[0, 1, 7, 30, 31]], "false"),
    "right_shift_rounded": shift_right([[0, 1, 7, 30, 31]], "true"),
    "shift_of_run_time": function(
        ["2x5xi32", "2x5xi1"],
        [const("n", np.array([[0, 1, 7, 30, 31]], np.int32)), const("m", np.array([[3, 0, 31, 1, 2]], np.int32)),
         "%s = tosa.select %b, %n, %m : (tensor<2x5xi1>, tensor<1x5xi32>, tensor<1x5xi32>) -> tensor<2x5xi32>",
         "%r = tosa.arithmetic_right_shift %a, %s {round = true} : (tensor<2x5xi32>, tensor<2x5xi32>) "
         "-> tensor<2x5xi32>"],
        "2x5xi32",
    ),
    "rescale_i8_i32": rescale("3x8xi8", "3x8xi32", [1 << 30], [20], 7, 0),
    "rescale_i8_i8": rescale("3x8xi8", "3x8xi8", [1 << 30], [30], 7, -20),
    "rescale_i32_i8_single": rescale("3x8xi32", "3x8xi8", [1518500250], [52], 0, 5),
    "rescale_i32_i8_double": rescale("3x8xi32", "3x8xi8", [1518500250], [52], 0, 5, "DOUBLE_ROUND"),
    "rescale_i32_i16": rescale("3x8xi32", "3x8xi16", [1518500250], [45], 0, 0, "DOUBLE_ROUND"),
    "rescale_i16_i8": rescale("3x8xi16", "3x8xi8", [1518500250], [38], 0, -3),
    "rescale_per_channel": rescale(
        "2x4xi32", "2x4xi8", [1 << 30, 1900000000, 1518500250, 0], [50, 51, 53, 40], 0, 5,
        "DOUBLE_ROUND", Q.replace("per_channel = false", "per_channel = true"),
    ),
    "rescale_unsigned_input": rescale(
        "3x8xi8", "3x8xi8", [1 << 30], [30], 0, -128, flags=Q.replace("input_unsigned = false", "input_unsigned = true"),
    ),
    "rescale_unsigned_output": rescale(
        "3x8xi8", "3x8xi8", [1 << 30], [30], -128, 0,
        flags=Q.replace("output_unsigned = false", "output_unsigned = true"),
    ),
    "two_zero_points": function(
        ["2x8xi8"],
        [const("m", i32(1 << 30)), const("s", i8(30)), const("z", i8(3)), const("y", i8(-9)), const("o", i32(0)),
         *(f"%{n} = tosa.rescale %a, %m, %s, %{z}, %o {{rounding_mode = SINGLE_ROUND, {Q}}} : "
           "(tensor<2x8xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>, tensor<1xi32>) -> tensor<2x8xi32>"
           for n, z in (("p", "z"), ("q", "y"))),
         "%r = tosa.sub %p, %q : (tensor<2x8xi32>, tensor<2x8xi32>) -> tensor<2x8xi32>"],
        "2x8xi32",
    ),
}  # fmt: skip
"""Operations whose results the specification states bit for bit."""

SMALL = {
    "add": simple("add", ["3x7xi32", "1x7xi32"], "3x7xi32"),
    "sub": simple("sub", ["3x7xi32", "3x1xi32"], "3x7xi32"),
    "mul_i8": function(
        ["3x7xi8", "1x7xi8"],
        [const("s", i8(0)),
         "%r = tosa.mul %a, %b, %s : (tensor<3x7xi8>, tensor<1x7xi8>, tensor<1xi8>) -> tensor<3x7xi32>"],
        "3x7xi32",
    ),
    **MUL,
    "intdiv": simple("intdiv", ["3x7xi32", "1x7xi32"], "3x7xi32"),
    "reduce_sum": simple("reduce_sum", ["3x7xi32"], "3x1xi32", "{axis = 1 : i32}"),
    "negate_i32": function(
        ["3x7xi32"],
        [const("z", i32(0)),
         "%r = tosa.negate %a, %z, %z : (tensor<3x7xi32>, tensor<1xi32>, tensor<1xi32>) -> tensor<3x7xi32>"],
        "3x7xi32",
    ),
}  # fmt: skip
"""Operations of i32 whose results must fit it: their inputs are small, and not 0."""

FLOATS = {
    **{n: simple(n, ["3x7xf32"], "3x7xf32") for n in (
        "erf", "sigmoid", "tanh", "abs", "ceil", "cos", "exp", "floor", "sin", "reciprocal")},
    **{n: simple(n, ["3x7xf32", "1x7xf32"], "3x7xf32") for n in ("add", "sub", "maximum", "minimum")},
    **{f"{n}_f32": simple(n, ["3x7xf32"], "3x1xf32", "{axis = 1 : i32}") for n in (
        "reduce_sum", "reduce_max", "reduce_min", "reduce_product")},
    "resize_bilinear_f32": resize("BILINEAR", "1x4x5x2xf32", "1x8x10x2xf32", (4, 2, 4, 2), (-1, -1), (1, 1)),
    "rfft2d": transform("rfft2d", ["2x4x8xf32"], "2x4x5xf32"),
    **{f"fft2d_{n}": transform("fft2d", ["2x4x8xf32"] * 2, "2x4x8xf32", f"{{inverse = {n}}}") for n in ("false", "true")},
    "clamp_f32": simple("clamp", ["3x7xf32"], "3x7xf32", "{min_val = 0.0 : f32, max_val = 6.0 : f32}"),
    "mul_f32": function(
        ["3x7xf32", "1x7xf32"],
        [const("s", i8(0)),
         "%r = tosa.mul %a, %b, %s : (tensor<3x7xf32>, tensor<1x7xf32>, tensor<1xi8>) -> tensor<3x7xf32>"],
        "3x7xf32",
    ),
    "select_f32": simple("select", ["3x7xi1", "3x7xf32", "3x1xf32"], "3x7xf32"),
    "greater_f32": simple("greater", ["3x7xf32", "1x7xf32"], "3x7xi1"),
    "matmul_f32": function(
        ["2x3x4xf32", "2x4x5xf32"],
        ['%z = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>',
         "%r = tosa.matmul %a, %b, %z, %z : (tensor<2x3x4xf32>, tensor<2x4x5xf32>, tensor<1xf32>, "
         "tensor<1xf32>) -> tensor<2x3x5xf32>"],
        "2x3x5xf32",
    ),
}  # fmt: skip
"""Operations of floats, which the specification bounds the error of."""
