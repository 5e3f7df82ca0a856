"""graph-unroll: recurrent layers become their time steps, on any target.

    %y, %h = graph.gru %x, %h0, %w, %r, %b, %c : (tensor<8x1x40xf32>, ...) -> ...

becomes

    %p0 = graph.matmul %x0, %w0     the products, sums and functions of each step, by gate
    %s0 = graph.sigmoid ...
    ...

graph-quantize needs the steps: a layer is a function of floats, and its steps are products, sums
and tables of integers. graph-decompose does the same later, for targets with floats. Layers with
more than `steps` time steps stay as they are.

`precision` names the scheme that graph-quantize gives all that a layer was made of, where nothing
else is said of it (`npu.recurrent` on the function): the noise of a step goes into all that follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from xdsl.context import Context
from xdsl.dialects.builtin import DictionaryAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import provenance
from npu_dialect.graph import recurrent
from npu_dialect.graph.recurrent import RecurrentOp
from npu_dialect.passes.placement.rules import MAX_STEPS
from npu_dialect.passes.quantizing.precision import RECURRENT, scheme_named
from npu_dialect.passes.rewriting import rewrite
from npu_dialect.passes.unrolling import unrolled


@dataclass(frozen=True)
class GraphUnrollPass(ModulePass):
    """Unroll recurrent layers of at most `steps` time steps. `precision` is a scheme, or `float`,
    for all of them; without, they get that of the model.
    """

    name = "graph-unroll"

    steps: int = MAX_STEPS
    precision: str = ""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.precision:
            scheme_named(self.precision, self.name)
            note(op, self.precision)
        rewrite(op, {cls: [partial(unroll, most=self.steps)] for cls in recurrent.OPS})


def note(module: ModuleOp, precision: str) -> None:
    """Writes onto the functions which nodes are recurrent layers, and their precision."""
    for function in module.ops:
        if isinstance(function, FuncOp):
            layers = [op for op in function.walk() if isinstance(op, RecurrentOp)]
            names = [name for op in layers for name in provenance.sources(op)[-1:]]
            if names:
                rows = dict.fromkeys(names, StringAttr(precision))
                function.attributes[RECURRENT] = DictionaryAttr(rows)


def unroll(op: RecurrentOp, rewriter: PatternRewriter, most: int) -> None:
    """A recurrent layer becomes its time steps, if they are few."""
    if op.sizes.steps <= most:
        made, values = unrolled(op)
        provenance.replace(rewriter, op, made, values)
