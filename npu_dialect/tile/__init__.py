"""The tile dialect: loop nests over tiles, buffers in dram, spm and acc, asynchronous copies."""

from xdsl.ir import Dialect, Operation

from npu_dialect.blob import BlobAttr
from npu_dialect.kernel import KernelAttr
from npu_dialect.tile.attributes import (
    ATTRIBUTES,
    Span,
    TokenType,
    Window,
    WindowAttr,
)
from npu_dialect.tile.compute import HostOp, Pool2DOp, ReduceOp, VectorOp
from npu_dialect.tile.contraction import (
    ArrayOp,
    Conv2DOp,
    DepthwiseConv2DOp,
    MatmulOp,
    WindowedOp,
)
from npu_dialect.tile.indexed import GatherOp, ScatterOp
from npu_dialect.tile.kernels import KernelOp
from npu_dialect.tile.memory import AllocOp, ConstantOp, CopyOp, FillOp, WaitOp
from npu_dialect.tile.structure import (
    BroadcastOp,
    EndOp,
    ForOp,
    ReshapeOp,
    StridedOp,
    TransposeOp,
    UnfoldOp,
    ViewOp,
)

OPS: list[type[Operation]] = [
    ConstantOp,
    AllocOp,
    ForOp,
    EndOp,
    ViewOp,
    TransposeOp,
    ReshapeOp,
    BroadcastOp,
    StridedOp,
    UnfoldOp,
    CopyOp,
    WaitOp,
    FillOp,
    Conv2DOp,
    DepthwiseConv2DOp,
    MatmulOp,
    VectorOp,
    ReduceOp,
    Pool2DOp,
    GatherOp,
    ScatterOp,
    HostOp,
]

Tile = Dialect("tile", OPS, ATTRIBUTES)

__all__ = [
    "OPS",
    "AllocOp",
    "ArrayOp",
    "BlobAttr",
    "BroadcastOp",
    "ConstantOp",
    "Conv2DOp",
    "CopyOp",
    "DepthwiseConv2DOp",
    "EndOp",
    "FillOp",
    "ForOp",
    "GatherOp",
    "HostOp",
    "KernelAttr",
    "KernelOp",
    "MatmulOp",
    "Pool2DOp",
    "ReduceOp",
    "ReshapeOp",
    "ScatterOp",
    "Span",
    "StridedOp",
    "Tile",
    "TokenType",
    "TransposeOp",
    "UnfoldOp",
    "VectorOp",
    "ViewOp",
    "WaitOp",
    "Window",
    "WindowAttr",
    "WindowedOp",
]
