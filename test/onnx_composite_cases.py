"""One-node ONNX models of operators that become several of `graph`: sums by labels, bits."""

from __future__ import annotations

import numpy as np
from onnx_cases import Case, floats, ints

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

COMPOSITE = [*EINSUM, *BITS, *TRIGONOMETRY]
