"""graph-quantize: a float graph with ranges becomes one of quantize and dequantize.

    %1 = graph.conv2d %x, %w, %b {npu.ranges = ...}
    %2 = graph.relu %1 {npu.ranges = array<f64: 0.0, 5.1>}

becomes

    %xq = graph.quantize %x : (tensor<1x8x8x4xf32>) -> tensor<1x8x8x4x!quant.uniform<i8:f32, ...>>
    %xd = graph.dequantize %xq
    %wd = graph.dequantize %wq                          weights by output channel
    %bd = graph.dequantize %bq                          i32, in steps of the sums
    %1 = graph.conv2d %xd, %wd, %bd
    %2 = graph.relu %1
    %q = graph.quantize %2  ...

as quantized ONNX models have it; graph-fold-qdq makes integers of it. Ranges are those that
graph-calibrate noted. Tensors within what becomes one operation (a convolution and its activation,
a chain of functions of one tensor) have no integers of their own. `scheme` is a row of
passes/quantizing/schemes.py. Inputs and outputs stay floats unless `integer_io` says otherwise.

Layers with a precision of their own (passes/quantizing/precision.py) have other integers, or
floats; with the scheme `float16` or `bfloat16` all others have, for which there need be no ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass

from npu_dialect.diagnostics import Code, error
from npu_dialect.passes.graph_calibrate import RANGES, functions, range_of
from npu_dialect.passes.quantizing.borders import integer_ports
from npu_dialect.passes.quantizing.insertion import Insertion, real_tensors
from npu_dialect.passes.quantizing.precision import HALVES
from npu_dialect.passes.quantizing.ranges import Range
from npu_dialect.passes.quantizing.schemes import SCHEMES, Scheme
from npu_dialect.passes.quantizing.types import mark
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target

TARGET = "npu.target"
"""The attribute of a module that names its machine."""


@dataclass(frozen=True)
class GraphQuantizePass(ModulePass):
    """Quantize with the ranges that graph-calibrate noted. `scheme` is int8 or another one of
    docs/quantization.md; with `integer_io` the inputs and outputs are integers, too.
    """

    name = "graph-quantize"

    keeps_bits: ClassVar[bool] = False
    """It rounds to integers."""

    scheme: str = "int8"
    integer_io: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.scheme not in (*SCHEMES, *HALVES):
            raise error(
                Code.OPTION,
                f"scheme must be one of {', '.join((*SCHEMES, *HALVES))}",
                found=self.scheme,
                source="graph-quantize",
            )
        target = module_target(op) if TARGET in op.attributes else None
        for function in functions(op):
            self._quantize(function, target)
        mark(op)

    def _quantize(self, function: FuncOp, target: Target | None) -> None:
        tensors = real_tensors(function)
        ranges = {v: found for v in tensors if (found := range_of(v)) is not None}
        floats = self.scheme if self.scheme in HALVES else ""
        if floats:
            ranges = {v: ranges.get(v, Range(-inf, inf)) for v in tensors}
        if tensors and not ranges:
            raise error(
                Code.OPTION,
                "the tensors of a graph must have ranges to be quantized",
                found="none",
                remedy="graph-calibrate{samples=...} first",
                source=function.sym_name.data,
            )
        for each in (function, *function.body.block.ops):
            each.attributes.pop(RANGES, None)
        scheme = SCHEMES.get(self.scheme, Scheme())
        Insertion(function, ranges, scheme, floats=floats, target=target).run()
        if self.integer_io:
            integer_ports(function)
