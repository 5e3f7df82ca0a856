"""The operator importers, grouped by topic; importing this package fills the table."""

from npu_dialect.frontends.onnx.ops import (
    constants,
    convolution,
    elementwise,
    linear,
    microsoft,
    movement,
    normalization,
    pooling,
    qlinear,
    quantization,
    reductions,
    selection,
    shapes,
)

TOPICS = [
    constants,
    convolution,
    elementwise,
    linear,
    microsoft,
    movement,
    normalization,
    pooling,
    qlinear,
    quantization,
    reductions,
    selection,
    shapes,
]
