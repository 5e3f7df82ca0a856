"""The operator importers, grouped by topic; importing this package fills the table."""

from npu_dialect.frontends.tflite.ops import (
    activations,
    arithmetic,
    contractions,
    densify,
    functions,
    hard_swish,
    indexing,
    logic,
    lstm,
    movement,
    pooling,
    quantization,
    reductions,
    resizing,
    softmax,
)

TOPICS = [
    activations,
    arithmetic,
    contractions,
    densify,
    functions,
    hard_swish,
    indexing,
    logic,
    lstm,
    movement,
    pooling,
    quantization,
    reductions,
    resizing,
    softmax,
]
