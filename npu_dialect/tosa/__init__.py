"""The tosa dialect, as far as it is exchanged with other tools: TOSA 1.0 in upstream MLIR's text.

An operation is a row: its operands and attributes by the names of the specification and of MLIR 22,
and what it means. Nothing is computed on these operations: `frontends/tosa` reads them into graph,
`tosa_export` writes graph as them.
"""

from xdsl.ir import Dialect

from npu_dialect.tosa.base import (
    ENUMS,
    NanModeAttr,
    ResizeModeAttr,
    RoundingModeAttr,
    ShapeType,
    TosaOp,
    define,
)
from npu_dialect.tosa.control import CondIfOp, WhileLoopOp, YieldOp
from npu_dialect.tosa.variables import VariableOp, VariableReadOp, VariableWriteOp

WINDOW = "pad stride"
CONV = f"{WINDOW} dilation acc_type local_bound?"
ROUNDING = "scale32 rounding_mode per_channel input_unsigned output_unsigned"

OPS: list[type[TosaOp]] = [
    define("argmax", "input", "axis nan_mode?", "Where the first greatest element of `axis` is."),
    define(
        "avg_pool2d",
        "input input_zp output_zp",
        f"kernel {WINDOW} acc_type",
        "The mean of each window, of the elements inside.",
    ),
    define("conv2d", "input weight bias input_zp weight_zp", CONV, "Weights [OC, KH, KW, IC]."),
    define("conv3d", "input weight bias input_zp weight_zp", CONV, "[OC, KD, KH, KW, IC]."),
    define("depthwise_conv2d", "input weight bias input_zp weight_zp", CONV, "[KH, KW, C, M]."),
    define("fft2d", "input_real input_imag", "inverse local_bound?", "The Fourier transform."),
    define("matmul", "a b a_zp b_zp", "", "[N, H, C] times [N, C, W]."),
    define("max_pool2d", "input", f"kernel {WINDOW} nan_mode?", "The greatest of each window."),
    define("rfft2d", "input_real", "local_bound?", "The Fourier transform of real numbers."),
    define(
        "transpose_conv2d",
        "input weight bias input_zp weight_zp",
        "out_pad stride acc_type local_bound?",
        "The transposed convolution, weights [OC, KH, KW, IC].",
    ),
    define("clamp", "input", "min_val max_val nan_mode?", "min(max(x, min_val), max_val)."),
    define("erf", "input", "", "The error function."),
    define("sigmoid", "input", "", "1 / (1 + exp(-x))."),
    define("tanh", "input", "", "The hyperbolic tangent."),
    define("add", "input1 input2", "", "The sum."),
    define("arithmetic_right_shift", "input1 input2", "round", "x / 2**n, downwards or rounded."),
    define("bitwise_and", "input1 input2", "", "Bits set in both."),
    define("bitwise_or", "input1 input2", "", "Bits set in either."),
    define("bitwise_xor", "input1 input2", "", "Bits set in one."),
    define("intdiv", "input1 input2", "", "The quotient, rounded toward zero."),
    define("logical_and", "input1 input2", "", "Whether both hold."),
    define("logical_left_shift", "input1 input2", "", "x * 2**n, modulo the type."),
    define("logical_right_shift", "input1 input2", "", "x / 2**n of the bits as unsigned."),
    define("logical_or", "input1 input2", "", "Whether either holds."),
    define("logical_xor", "input1 input2", "", "Whether one holds."),
    define("maximum", "input1 input2", "nan_mode?", "The greater one."),
    define("minimum", "input1 input2", "nan_mode?", "The smaller one."),
    define("mul", "input1 input2 shift", "", "The product; of i32, shifted right and rounded."),
    define("pow", "input1 input2", "", "x ** y."),
    define("sub", "input1 input2", "", "The difference."),
    define("table", "input1 table", "", "A look-up; between entries for 16 bits."),
    define("abs", "input1", "", "|x|."),
    define("bitwise_not", "input1", "", "The opposite bits."),
    define("ceil", "input1", "", "The smallest whole number not below x."),
    define("clz", "input1", "", "Leading zero bits."),
    define("cos", "input1", "", "The cosine."),
    define("exp", "input1", "", "e**x."),
    define("floor", "input1", "", "The greatest whole number not above x."),
    define("log", "input1", "", "The natural logarithm."),
    define("logical_not", "input1", "", "Whether x does not hold."),
    define("negate", "input1 input1_zp output_zp", "", "-x."),
    define("reciprocal", "input1", "", "1 / x."),
    define("rsqrt", "input1", "", "1 / sqrt(x)."),
    define("sin", "input1", "", "The sine."),
    define("select", "input1 input2 input3", "", "input2 where input1 holds, else input3."),
    define("equal", "input1 input2", "", "x == y."),
    define("greater", "input1 input2", "", "x > y."),
    define("greater_equal", "input1 input2", "", "x >= y."),
    define("reduce_all", "input", "axis", "Whether all of `axis` hold."),
    define("reduce_any", "input", "axis", "Whether any of `axis` holds."),
    define("reduce_max", "input", "axis nan_mode?", "The greatest of `axis`."),
    define("reduce_min", "input", "axis nan_mode?", "The smallest of `axis`."),
    define("reduce_product", "input", "axis", "The product of `axis`."),
    define("reduce_sum", "input", "axis", "The sum of `axis`."),
    define("concat", "*input1", "axis", "One after the other along `axis`."),
    define("pad", "input1 padding pad_const", "", "A border of `pad_const`."),
    define("reshape", "input1 shape", "", "The same elements in another shape."),
    define("reverse", "input1", "axis", "In the opposite order along `axis`."),
    define("slice", "input1 start size", "", "A part."),
    define("tile", "input1 multiples", "", "Repeated."),
    define("transpose", "input1", "perms", "Dimensions in another order."),
    define("gather", "values indices", "", "Rows [N, K, C] by indices [N, W]."),
    define("scatter", "values_in indices input", "", "Rows written at indices."),
    define("resize", "input scale offset border", "mode", "An image of another size."),
    define("cast", "input", "", "The numbers as another type; floats to the nearest integer."),
    define(
        "rescale", "input multiplier shift input_zp output_zp", ROUNDING,
        "round((x - input_zp) * multiplier / 2**shift) + output_zp, saturated.",
    ),
    define("const", "", "values", "An array."),
    define("const_shape", "", "values", "Sizes."),
    define("identity", "input1", "", "The same."),
    define("custom", "*input_list", "operator_name domain_name implementation_attrs", "Any."),
]  # fmt: skip
"""Every operation of tensors but those with regions."""

VARIABLES = [VariableOp, VariableReadOp, VariableWriteOp]
"""States and what reads and writes them."""

BY_NAME: dict[str, type[TosaOp]] = {kind.name.removeprefix("tosa."): kind for kind in OPS}
"""The classes by the names of the specification."""

CONTROL = [CondIfOp, WhileLoopOp, YieldOp]
"""What has regions, and what ends them."""

Tosa = Dialect("tosa", [*OPS, *VARIABLES, *CONTROL], [ShapeType, *ENUMS.values()])

__all__ = [
    "BY_NAME",
    "OPS",
    "CondIfOp",
    "NanModeAttr",
    "ResizeModeAttr",
    "RoundingModeAttr",
    "ShapeType",
    "Tosa",
    "TosaOp",
    "VariableOp",
    "VariableReadOp",
    "VariableWriteOp",
    "WhileLoopOp",
    "YieldOp",
]
