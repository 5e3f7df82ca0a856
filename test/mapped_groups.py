"""Small modules of one group each for the tests of mapping and lowering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from npu_dialect import api, dtypes, graph
from npu_dialect.graph.base import tensor_type
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.graph.quant import uniform
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.provenance import name_location

Array = npt.NDArray[Any]
Body = Callable[..., Sequence[Operation]]

I8 = uniform(dtypes.i8, 0.05, -3)
OUT = uniform(dtypes.i8, 0.11, 5)


class ModuleBuilder:
    """A `@main` that is built group by group. Every operation is called after its group."""

    def __init__(self, target: str, *inputs: tuple[Sequence[int], Attribute]):
        self.block = Block(arg_types=[tensor_type(tuple(s), e) for s, e in inputs])
        self.target = target

    @property
    def args(self) -> Sequence[SSAValue]:
        return self.block.args

    def constant(self, array: Array, element: Attribute | None = None) -> SSAValue:
        kind = None if element is None else tensor_type(array.shape, element)
        op = graph.ConstantOp(array, kind, location=name_location("constant"))
        self.block.add_op(op)
        return op.result

    def group(self, name: str, kind: str, inputs: Sequence[SSAValue], body: Body) -> SSAValue:
        """A group; `body` makes its operations from the block arguments, the last one's result is
        the group's.
        """
        inside = Block(arg_types=[v.type for v in inputs])
        ops = list(body(*inside.args))
        for op in ops:
            op.location = name_location(name)
        inside.add_ops([*ops, graph.YieldOp(ops[-1].results[0])])
        group = graph.GroupOp(inputs, Region(inside), kind, location=name_location(name))
        self.block.add_op(group)
        return group.results[0]

    def module(self, *results: SSAValue) -> ModuleOp:
        self.block.add_op(ReturnOp(*results))
        types = FunctionType.from_lists(list(self.block.arg_types), [r.type for r in results])
        function = FuncOp("main", types, Region(self.block))
        for what, values in (("input", self.args), ("output", results)):
            names = [StringAttr(f"{what}{i}") for i in range(len(values))]
            function.attributes[f"npu.{what}_names"] = ArrayAttr(names)
        module = ModuleOp([function])
        module.attributes["npu.target"] = TargetAttr(self.target)
        module.attributes["npu.level"] = StringAttr("graph")
        module.verify()
        return module


def levels(module: ModuleOp, inputs: Sequence[Array], seed: int = 0) -> dict[str, list[Array]]:
    """The outputs of a grouped module at every level; npu in an order of execution drawn with
    `seed`.
    """
    results = {"graph": [np.asarray(a) for a in run_graph(module, inputs)]}
    api.lower(module, "tile")
    results["tile"] = list(api.execute(module, inputs).values())
    api.lower(module, "npu")
    results["npu"] = list(api.execute(module, inputs, seed=seed).values())
    return results


def assert_levels_agree(module: ModuleOp, inputs: Sequence[Array], seed: int = 0) -> None:
    """Every level gives the same bits."""
    results = levels(module, inputs, seed)
    for level in ("tile", "npu"):
        for expected, found in zip(results["graph"], results[level], strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=level)


def integers(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.int8]:
    """Random int8 values over the whole range."""
    return rng.integers(-128, 128, shape, np.int8)


def floats(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Random f32 values around zero."""
    return rng.normal(size=shape).astype(np.float32)


__all__ = [
    "I8",
    "OUT",
    "ModuleBuilder",
    "assert_levels_agree",
    "f32",
    "floats",
    "integers",
    "levels",
]
