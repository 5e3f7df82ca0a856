"""Shapes, extents and counts at the edges: whole compilations give the bits of level graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fuzzing import QUIET
from graph_samples import Sample, same
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, f32, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from npu_dialect import api, graph
from npu_dialect.graph.base import tensor_type
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.runtime.program import Program

Build = Callable[[Sample], list[SSAValue]]


def module_of(s: Sample, results: list[SSAValue]) -> ModuleOp:
    module = s.module(*results)
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    for what, count in (("input", len(s.block.args)), ("output", len(results))):
        names = [StringAttr(f"{what}{i}") for i in range(count)]
        function.attributes[f"npu.{what}_names"] = ArrayAttr(names)
    return module


def compiled(build: Build, target: str = "mobile4k") -> Program:
    """The program, as it is read back from a file; simulated and compared."""
    s = Sample(0, target)
    module = module_of(s, build(s))
    api.lower(module, "graph", options=QUIET)
    expected = run_graph(module, s.inputs)
    api.lower(module, "npu", options=QUIET)
    program = Program.from_bytes(api.assemble(module).to_bytes())
    found = api.simulate(program, s.inputs, seed=1).outputs.values()
    assert all(same(np.asarray(a), b) for a, b in zip(expected, found, strict=True))
    return program


def rules(program: Program) -> set[str]:
    return {p.rule for p in program.placements}


def ones(s: Sample, *shape: int) -> SSAValue:
    return s.constant(np.ones(shape, np.float32))


@pytest.mark.parametrize("target", ["mobile4k", "edge256"])
def test_several_dimensions_without_elements_are_a_result(target: str):
    build = lambda s: [s.add(graph.NegOp(s.argument((3, 0, 5), i32)))]  # noqa: E731
    assert rules(compiled(build, target)) == {"elements-exist"}


@pytest.mark.parametrize("target", ["mobile4k", "edge256"])
def test_tensors_without_elements_are_left_to_the_host(target: str):
    def build(s: Sample) -> list[SSAValue]:
        x = s.argument((0, 3), f32)
        total = s.add(graph.ReduceSumOp(x, [0]))
        return [x, s.add(graph.AddOp(x, s.argument((3,), f32))), total]

    assert "elements-exist" in rules(compiled(build, target))


def test_results_may_be_inputs_constants_and_each_other():
    def build(s: Sample) -> list[SSAValue]:
        x, unused = s.argument((3,), f32), s.argument((2,), i32)
        y = s.add(graph.NegOp(x))
        return [x, ones(s, 3), y, y, unused, s.add(graph.ReshapeOp(y, (3, 1)))]

    compiled(build)


def test_a_scalar_is_an_input_and_an_output():
    compiled(lambda s: [s.add(graph.AddOp(s.argument((), f32), s.argument((), f32)))])


@pytest.mark.parametrize("rank", [6, 7])
def test_more_dimensions_than_an_instruction_has_are_done_in_several_steps(rank: int):
    def build(s: Sample) -> list[SSAValue]:
        x = s.argument((2,) * rank, f32)
        return [x, s.add(graph.TransposeOp(x, range(rank - 1, -1, -1)))]

    assert all(p.engine != "host" for p in compiled(build).placements)


def test_a_stride_beyond_eight_bits_runs_on_the_array():
    x = lambda s: s.argument((1, 700, 1, 2), f32)  # noqa: E731
    build = lambda s: [s.add(graph.Conv2DOp(x(s), ones(s, 1, 1, 2, 3), None, (300, 1)))]  # noqa: E731
    assert rules(compiled(build)) == {"array"}


def test_a_stride_beyond_its_field_is_left_to_the_host_with_the_reason():
    x = lambda s: s.argument((1, 5001, 1, 2), f32)  # noqa: E731
    build = lambda s: [s.add(graph.Conv2DOp(x(s), ones(s, 1, 1, 2, 3), None, (5000, 1)))]  # noqa: E731
    (placement,) = compiled(build).placements
    assert (placement.engine, placement.rule) == ("host", "window-fields")
    assert placement.reason.endswith("found strides of [5000, 1], and a field has 12 bits")


def test_a_reduction_larger_than_the_scratchpad_is_left_to_the_host():
    build = lambda s: [s.add(graph.ReduceSumOp(s.argument((600_000,), f32), [0]))]  # noqa: E731
    assert rules(compiled(build)) == {"tile-fits"}


def test_a_long_chain_of_parameters_is_several_kernels():
    def build(s: Sample) -> list[SSAValue]:
        x = s.argument((4, 8), f32)
        for _ in range(150):
            x = s.add(graph.AddOp(x, s.constant(s.rng.normal(size=8).astype(np.float32))))
        return [s.add(graph.TanhOp(x))]

    program = compiled(build)
    assert len(program.kernels) > 1
    assert max(len(k.params) for k in program.kernels) <= 255


def test_the_host_takes_hundreds_of_operands():
    def build(s: Sample) -> list[SSAValue]:
        parts = [s.add(graph.ExpOp(s.argument((1, 2), f32))) for _ in range(300)]
        return [s.add(graph.ConcatOp(parts, 0))]

    assert "vector-types" in rules(compiled(build, "edge256"))


def test_an_extent_beyond_24_bits_compiles():
    s = Sample(0)
    x = s.block.insert_arg(tensor_type((1 << 24,), i32), 0)
    module = module_of(s, [x])
    api.lower(module, options=QUIET)
    assert api.assemble(module).outputs[0].shape == (1 << 24,)
