"""One-node ONNX models of operators that become several of `graph`: labels, bits, signals."""

from __future__ import annotations

import numpy as np
from onnx_cases import MICROSOFT, Case, f32, floats, i64, ints, scalar

Q, K, V = floats(2, 4, 5, 8, seed=1), floats(2, 4, 6, 8, seed=2), floats(2, 4, 6, 8, seed=3)

EINSUM = [
    *[Case("Einsum", list(factors), {"equation": equation}, label=equation, tolerance=1e-4)
    for equation, *factors in (
        ("ij,jk->ik", floats(3, 4), floats(4, 5)),
        ("ij , jk", floats(3, 4), floats(4, 5)),
        ("bij,bjk->bik", floats(2, 3, 4), floats(2, 4, 5)),
        ("ij->ji", floats(3, 4)),
        ("ba", floats(3, 4)),
        ("ii->i", floats(4, 4)),
        ("ii", floats(4, 4)),
        ("iiji->ij", floats(3, 3, 4, 3)),
        ("ij->", floats(3, 4)),
        ("i,j->ij", floats(3), floats(4)),
        ("i,i", floats(4), floats(4)),
        ("...ij,...jk->...ik", floats(2, 3, 4), floats(2, 4, 5)),
        ("...ij,jk", floats(2, 3, 4), floats(4, 5)),
        ("bhid,bhjd->bhij", Q, K),
        ("bhij,bhjd->bhid", floats(2, 4, 5, 6), V),
        ("bn,anm,bm->ba", floats(2, 3), floats(5, 3, 4), floats(2, 4)),
        ("ijk,ik->ij", floats(3, 4, 5), floats(3, 5)),
        ("ab,cd->", floats(2, 3), floats(4, 5)),
        ("abc,cd,def->abef", floats(2, 3, 4), floats(4, 5), floats(5, 2, 3)),
    )],
    Case("Einsum", [floats(5, 1, 3, 4), floats(1, 2, 4, 5)], {"equation": "...ij,...jk->...ik"},
         label="broadcast", tolerance=1e-4),
    Case("Einsum", [ints(3, 4), ints(4, 5)], {"equation": "ij,jk->ik"}, label="int32"),
]  # fmt: skip

BITS = [
    *[Case("BitShift", [ints(3, 4, low=0, high=255, dtype=np.uint8),
                        ints(4, low=0, high=7, dtype=np.uint8)], {"direction": direction},
           label=direction) for direction in ("LEFT", "RIGHT")],
    *[Case("BitShift", [ints(3, 4, low=0, high=255, dtype=np.uint8), scalar(shift, np.uint8)],
           {"direction": direction}, label=f"{direction} {shift}")
      for direction in ("LEFT", "RIGHT") for shift in (0, 3, 7)],
    *[Case("BitwiseNot", [ints(3, 4, low=0, dtype=dtype)], opset=18, label=str(np.dtype(dtype)))
      for dtype in (np.int32, np.int8, np.uint8)],
    *[Case("BitCast", [ints(3, 4, low=-128, high=127, dtype=dtype)], {"to": to}, opset=26,
           label=f"{np.dtype(dtype)} to {to}") for dtype, to in ((np.int8, 2), (np.int16, 4))],
]  # fmt: skip

TRIGONOMETRY = [
    *[Case(name, [floats(3, 40, low=-0.99, high=0.99)]) for name in ("Acos", "Asin", "Atanh")],
    *[Case(name, [floats(3, 40, low=-9, high=9)]) for name in ("Asinh", "Atan", "Cosh", "Sinh")],
    Case("Acosh", [floats(3, 40, low=1.01, high=9)]),
]

SIGNALS = [
    Case("DFT", [floats(2, 8, 1)], {"axis": 1}, tolerance=1e-4),
    Case("DFT", [floats(2, 7, 3, 2)], {"axis": 1}, label="complex", tolerance=1e-4),
    Case("DFT", [floats(2, 8, 2)], {"axis": 1, "inverse": 1}, label="inverse", opaque=True,
         tolerance=1e-4),
    Case("DFT", [floats(2, 9, 1)], {"axis": 1, "onesided": 1}, label="one side", tolerance=1e-4),
    Case("DFT", [floats(2, 8, 1), scalar(12, np.int64)], {"axis": 1}, (1,), label="longer",
         tolerance=1e-4),
    Case("DFT", [floats(2, 8, 1), None, scalar(1, np.int64)], {}, (2,), opset=20, tolerance=1e-4),
    Case("STFT", [floats(2, 64, 1), scalar(8, np.int64), floats(16)], {}, (1,), tolerance=1e-4),
    Case("STFT", [floats(1, 64, 1), scalar(8, np.int64), None, scalar(16, np.int64)],
         {"onesided": 0}, (1, 3), label="no window", tolerance=1e-4),
]  # fmt: skip

GRID = [floats(2, 3, 4, 5), floats(2, 3, 4, 2, low=-1.4, high=1.4)]
DEFORMED = [floats(2, 4, 5, 6), floats(6, 4, 3, 2), floats(2, 12, 3, 5, low=-1.5, high=1.5)]

SAMPLES = [
    *[Case("GridSample", GRID, {"mode": mode, "padding_mode": padding, "align_corners": aligned},
           opset=20, tolerance=1e-4, label=f"{mode} {padding} {aligned}")
      for mode in ("linear", "nearest", "cubic")
      for padding in ("zeros", "border", "reflection") for aligned in (0, 1)],
    Case("GridSample", GRID, {"padding_mode": "border"}, opset=16, tolerance=1e-4),
    Case("GridSample", GRID, domain=MICROSOFT, result="float32", tolerance=1e-4, label="microsoft"),
    *[Case("RoiAlign", [floats(2, 3, 8, 9), f32(0, 0, 4, 4, 1, 1, 7.5, 6).reshape(2, 4), i64(1, 0)],
           {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.9,
            **more}, opset=opset, tolerance=1e-4, label=label)
      for label, opset, more in (
          ("plain", 10, {}),
          ("max", 16, {"mode": "max"}),
          ("half pixel", 16, {"coordinate_transformation_mode": "half_pixel"}),
          ("output half pixel", 16, {"coordinate_transformation_mode": "output_half_pixel"}),
      )],
    Case("DeformConv", DEFORMED, opset=19, tolerance=1e-4),
    Case("DeformConv", [DEFORMED[0], floats(6, 2, 3, 2), floats(2, 24, 3, 3), floats(6),
                        floats(2, 12, 3, 3)],
         {"group": 2, "offset_group": 2, "strides": [2, 2], "pads": [1, 0, 1, 1]}, opset=19,
         tolerance=1e-4, label="groups"),
    Case("Col2Im", [floats(2, 8, 9), i64(4, 4), i64(2, 2)], {}, (1, 2), opset=18),
    Case("Col2Im", [floats(1, 8, 4), i64(4, 4), i64(2, 2)], {"strides": [2, 2]}, (1, 2), opset=18,
         label="strides"),
    Case("Col2Im", [floats(1, 18, 16), i64(6, 6), i64(3, 3)],
         {"dilations": [2, 2], "pads": [1, 1, 1, 1]}, (1, 2), opset=18, label="dilated"),
    *[Case("Det", [floats(2, n, n)], label=str(n)) for n in (1, 2, 3, 4)],
]  # fmt: skip

COMPOSITE = [*EINSUM, *BITS, *TRIGONOMETRY, *SIGNALS, *SAMPLES]
