"""The comparison of levels: exact among our levels, with a tolerance against onnxruntime."""

import numpy as np
import pytest

from npu_dialect.compare import Comparison, Step, aligned, compare_arrays, same, within_tolerance
from npu_dialect.ports import Array


def f32(values: list[float]) -> Array:
    return np.array(values, np.float32)


def i8(values: list[int]) -> Array:
    return np.array(values, np.int8)


def step(old: object, new: object, before: str = "graph") -> Step:
    return compare_arrays("conv1", before, "tile", np.asarray(old), np.asarray(new))


def test_equal_arrays_agree():
    assert step([1, 2], [1, 2]).agrees


def test_one_other_bit_is_a_difference_among_our_levels():
    next_to_two = float(np.nextafter(np.float32(2), np.float32(3)))
    found = step(f32([1, 2, 3]), f32([1, next_to_two, 4]))
    assert not found.agrees
    assert (found.differing, found.elements, found.largest) == (2, 3, 1.0)
    assert found.first == (1,)


def test_every_nan_is_the_same_and_zeros_have_signs():
    old, new = f32([np.nan, 0.0, 1.0]), f32([-np.nan, -0.0, 1.0])
    assert same(old, new).tolist() == [True, False, True]


@pytest.mark.parametrize(("gap", "agrees"), [(1, True), (2, False)])
def test_integers_may_differ_by_one_step_from_onnxruntime(gap: int, agrees: bool):
    assert step(i8([5]), i8([5 + gap]), "onnxruntime").agrees is agrees


@pytest.mark.parametrize(("gap", "agrees"), [(5e-4, True), (5e-2, False)])
def test_floats_may_differ_by_a_part_of_the_range(gap: float, agrees: bool):
    old = np.array([0.0, 1.0])
    assert within_tolerance(old, old * (1 + gap), "f") is agrees


def test_values_just_dequantized_may_differ_by_a_step_of_their_quantization():
    old = f32([0.0, 0.5, 1.0])
    assert compare_arrays("dq", "onnxruntime", "graph", old, f32([0.5, 0.5, 1.0]), 0.5).agrees
    assert not compare_arrays("dq", "onnxruntime", "graph", old, f32([1.0, 0.5, 1.0]), 0.5).agrees


def test_a_channels_last_tensor_is_compared_with_its_original():
    old = np.arange(24).reshape(1, 2, 3, 4)
    reference, found = aligned(old, np.moveaxis(old, 1, -1))
    assert reference is not None
    assert (reference == found).all()


def test_tensors_that_hold_other_values_are_not_compared():
    assert aligned(np.zeros(4, np.float32), np.zeros(4, np.int8))[0] is None
    assert aligned(np.zeros(4), np.zeros(5))[0] is None


def test_only_our_levels_must_agree_exactly():
    near = step(i8([5]), i8([6]), "onnxruntime")
    far = step(i8([5]), i8([6]), "graph")
    assert Comparison((near,), True).levels_agree
    assert not Comparison((near, far), True).levels_agree
    assert Comparison((near, far), True).first_difference("tile") == far


def test_only_outputs_must_be_near_onnxruntime():
    far = step(i8([5]), i8([9]), "onnxruntime")
    output = compare_arrays("output y", "onnxruntime", "graph", i8([5]), i8([9]))
    assert Comparison((far,), True).reference_agrees
    assert not Comparison((far, output), True).reference_agrees
