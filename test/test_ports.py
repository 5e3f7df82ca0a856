"""Arrays given for inputs must have their names, shapes and element types."""

import numpy as np
import pytest

from npu_dialect import dtypes
from npu_dialect.diagnostics import CompileError
from npu_dialect.ports import Port, bind

X = Port("x", dtypes.f32, (2, 3))
Y = Port("y", dtypes.i8, (4,))
x = np.zeros((2, 3), np.float32)
y = np.zeros(4, np.int8)


@pytest.mark.parametrize("inputs", [{"y": y, "x": x}, [x, y]], ids=["by name", "in order"])
def test_arrays_are_brought_into_order(inputs: object):
    bound = bind([X, Y], inputs)  # pyright: ignore[reportArgumentType]
    assert [a.dtype.name for a in bound] == ["float32", "int8"]


def test_a_single_array_stands_for_the_only_input():
    assert bind([X], x)[0].shape == (2, 3)


def test_a_wrong_name_lists_the_right_ones():
    line = r"NPU0501.*exactly those of the program \(x: f32\[2, 3\]; y: i8\[4\]\); found x, z"
    with pytest.raises(CompileError, match=line + "; try --input x=FILE.npy --input y=FILE.npy"):
        bind([X, Y], {"x": x, "z": y})


def test_a_missing_array_lists_the_right_ones():
    with pytest.raises(CompileError, match="NPU0501.*found 1 arrays without names"):
        bind([X, Y], [x])


def test_a_wrong_element_type_says_how_to_convert():
    with pytest.raises(CompileError, match=r"NPU0503.: x: .*type float32; found float64; try .*a"):
        bind([X], x.astype(np.float64))


def test_a_wrong_shape_says_how_to_reshape():
    line = r"NPU0502.: x: .*shape \[2, 3\]; found \[3, 2\]; try array.reshape\(\[2, 3\]\)"
    with pytest.raises(CompileError, match=line):
        bind([X], x.T)


def test_a_wrong_size_suggests_another_shape():
    with pytest.raises(CompileError, match=r"NPU0502.*found \[2, 4\]; try .*--shape"):
        bind([X], np.zeros((2, 4), np.float32))


def test_all_wrong_inputs_are_reported_at_once():
    with pytest.raises(CompileError) as caught:
        bind([X, Y], [x.T, y.astype(np.int16)])
    assert [r.source for r in caught.value.records] == ["x", "y"]
