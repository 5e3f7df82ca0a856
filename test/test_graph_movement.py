"""Operations that move elements, against plain numpy; what becomes of the scales."""

import numpy as np
import pytest
from graph_cases import Q8, QM, QU8, t, value, values
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import f32, i1, i32

from npu_dialect import dtypes, graph


def arange(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


@given(st.permutations(range(4)))
def test_transpose_is_that_of_numpy(order: list[int]):
    x = arange(2, 3, 4, 5)
    made = graph.TransposeOp(value(t(i32, *x.shape)), permutation=order)
    np.testing.assert_array_equal(made.evaluate(x)[0], x.transpose(order))


def test_transpose_moves_the_axis_of_the_scales():
    (x,) = values([t(QM, 5, 3)])
    assert graph.TransposeOp(x, (1, 0)).type == t(QM.with_axis(0), 3, 5)


def test_a_permutation_must_name_every_dimension():
    with pytest.raises(
        ValueError, match=r"must name each of the 2 dimensions once; found \[0, 0\]"
    ):
        graph.TransposeOp(value(t(f32, 2, 3)), permutation=(0, 0))


@given(st.data())
def test_slice_takes_start_plus_index_times_stride(data: st.DataObject):
    extent = data.draw(st.integers(1, 9))
    start = data.draw(st.integers(0, extent - 1))
    stride = data.draw(st.integers(-3, 3).filter(bool))
    room = (extent - 1 - start) // stride if stride > 0 else start // -stride
    size = data.draw(st.integers(0, room + 1))
    x = arange(2, extent)
    made = graph.SliceOp(value(t(i32, 2, extent)), (0, start), (2, size), (1, stride))
    np.testing.assert_array_equal(
        made.evaluate(x)[0], x[:, [start + i * stride for i in range(size)]]
    )


@pytest.mark.parametrize(
    ("start", "size", "stride"), [(0, 5, 1), (-1, 1, 1), (1, 3, -1), (0, 1, 0)]
)
def test_a_slice_must_lie_in_the_operand(start: int, size: int, stride: int):
    with pytest.raises(ValueError, match="a slice must lie in the operand"):
        graph.SliceOp(value(t(f32, 4)), (start,), (size,), (stride,))


def test_a_slice_along_the_axis_of_the_scales_takes_their_slice():
    (x,) = values([t(QM, 5, 3)])
    quant = graph.uniform(dtypes.i8, [0.3, 0.1], [3, 1], axis=1)
    assert graph.SliceOp(x, (0, 2), (5, 2), (1, -2)).type == t(quant, 5, 2)


def test_pad_surrounds_with_the_value():
    made = graph.PadOp(value(t(i32, 2, 2)), (1, 0), (0, 2), -7)
    x = arange(2, 2)
    np.testing.assert_array_equal(
        made.evaluate(x)[0], np.pad(x, ((1, 0), (0, 2)), constant_values=-7)
    )


def test_pad_of_bool_takes_zero_or_one():
    with pytest.raises(ValueError, match="value must be an integer that bool can hold; found 2"):
        graph.PadOp(value(t(i1, 2)), (1,), (1,), 2)


def test_concat_joins_along_the_axis():
    a, b = arange(2, 3), arange(2, 1)
    x, y = values([t(i32, 2, 3), t(i32, 2, 1)])
    found = graph.ConcatOp([x, y], 1).evaluate(a, b)[0]
    np.testing.assert_array_equal(found, np.concatenate([a, b], 1))


def test_concat_along_the_axis_of_the_scales_joins_them():
    other = graph.uniform(dtypes.i8, [0.5], [7], axis=1)
    x, y = values([t(QM, 5, 3), t(other, 5, 1)])
    joined = graph.uniform(dtypes.i8, [0.1, 0.2, 0.3, 0.5], [1, 2, 3, 7], axis=1)
    assert graph.ConcatOp([x, y], 1).type == t(joined, 5, 4)


def test_concat_of_different_quantizations_is_refused():
    with pytest.raises(ValueError, match="must have the same element type"):
        graph.ConcatOp(values([t(Q8, 2), t(QU8, 2)]), 0)


def test_concat_refuses_shapes_that_differ_elsewhere():
    with pytest.raises(ValueError, match="must agree except in dimension 1"):
        graph.ConcatOp(values([t(f32, 2, 3), t(f32, 3, 3)]), 1)


def test_reshape_keeps_the_order_of_elements():
    made = graph.ReshapeOp(value(t(i32, 2, 6)), shape=(3, 4))
    np.testing.assert_array_equal(made.evaluate(arange(2, 6))[0], arange(3, 4))


def test_reshape_must_keep_the_number_of_elements():
    with pytest.raises(
        ValueError, match=r"as many elements as the operand; found \[5\] for \[2, 3\]"
    ):
        graph.ReshapeOp(value(t(f32, 2, 3)), shape=(5,))


def test_reshape_moves_the_scales_with_their_dimension():
    (x,) = values([t(QM, 5, 3)])
    assert graph.ReshapeOp(x, (1, 5, 3)).type == t(QM.with_axis(2), 1, 5, 3)


def test_reshape_must_keep_the_dimension_of_the_scales():
    with pytest.raises(ValueError, match="must keep the dimension 1, along which"):
        graph.ReshapeOp(value(t(QM, 5, 3)), shape=(15,))


def test_broadcast_to_repeats_as_numpy_does():
    made = graph.BroadcastToOp(value(t(i32, 3, 1)), shape=(2, 3, 4))
    x = arange(3, 1)
    np.testing.assert_array_equal(made.evaluate(x)[0], np.broadcast_to(x, (2, 3, 4)))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 2)])
def test_broadcast_to_refuses_shapes_that_do_not_fit(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="must broadcast"):
        graph.BroadcastToOp(value(t(f32, 2, 3)), shape=shape)
