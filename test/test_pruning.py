"""graph-prune, against numpy, onnxruntime and what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantizing_models import computed, convolutions, decibels, expected, normal, prepared, saved

import npu_dialect as npu
from npu_dialect import graph, pipeline, universe
from npu_dialect.diagnostics import CompileError
from npu_dialect.npu.copies import DmaExpandOp
from npu_dialect.passes.rewriting import constant

Array = np.ndarray[Any, Any]

IMAGES = normal(24, 1, 3, 12, 12, seed=9)
OTHERS = normal(24, 1, 3, 12, 12, seed=10)


def weights(module: Any) -> list[Array]:
    kinds = graph.Conv2DOp | graph.MatmulOp
    found = [constant(op.operands[1]) for op in module.walk() if isinstance(op, kinds)]
    return [array for array in found if array is not None]


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_the_least_weights_of_a_layer_become_zero(sparsity: float):
    before = weights(prepared(convolutions()))
    after = weights(prepared(convolutions(), f"graph-prune{{sparsity={sparsity}}}"))
    for number, (a, b) in enumerate(zip(before, after, strict=True)):
        if number == 1:  # depthwise
            assert (a == b).all()
            continue
        limit = np.sort(np.abs(a).ravel())[int(sparsity * a.size)]
        assert (b == np.where(np.abs(a) >= limit, a, 0)).all()


@pytest.mark.parametrize("sampled", [False, True])
def test_of_four_input_channels_two_stay(tmp_path: Path, sampled: bool):
    samples = f" samples={saved(tmp_path, IMAGES)}" if sampled else ""
    first, depthwise, *others = weights(
        prepared(convolutions(), f'graph-prune{{structure="2:4"{samples}}}')
    )
    assert first.all() and depthwise.all()  # 3 channels, and 1
    for array in others:
        quads = np.moveaxis(array, -2, 0).reshape(4, 4, -1)
        assert (np.count_nonzero(quads, axis=1) == 2).all()


@pytest.mark.parametrize("options", ["sparsity=0.5", 'structure="2:4"'])
def test_weights_that_stay_make_up_for_those_that_go(tmp_path: Path, options: str):
    source = convolutions()
    reference = expected(source, OTHERS)
    alone, together = (
        decibels(computed(prepared(source, f"graph-prune{{{options}{more}}}"), OTHERS), reference)
        for more in ("", f" samples={saved(tmp_path, IMAGES)}")
    )
    assert together > alone + 1


def test_a_pruned_model_is_stored_in_pairs_and_the_same_bits_at_all_levels(tmp_path: Path):
    samples = saved(tmp_path, IMAGES)
    prune = f'graph-prune{{structure="2:4" samples={samples}}}'
    rounded = f"graph-round-weights{{samples={samples}}}"
    spec = f"{prune},graph-calibrate{{samples={samples}}},{rounded},graph-quantize"
    module = prepared(convolutions(), spec, "headset2k")
    plain = module.clone()
    npu.lower(module)
    program = npu.assemble(module)
    expanded = [i for i in program.instructions if i.op == DmaExpandOp.name]
    assert expanded
    pipeline.run(plain, universe.pipeline("graph"))
    found = npu.simulate(program, [IMAGES[0]]).outputs["y"]
    assert np.asarray(found).tobytes() == computed(plain, IMAGES[:1])[0].tobytes()


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("sparsity=1.0", "sparsity must be a number from 0 to below 1"),
        ("sparsity=1", "sparsity must be a number from 0 to below 1"),
        ('structure="1:4"', "structure must be 2:4 or nothing"),
    ],
)
def test_options_must_be_possible(option: str, rule: str):
    with pytest.raises(CompileError, match=rule):
        prepared(convolutions(), f"graph-prune{{{option}}}")
