"""The rules, by topic; importing this fills the table."""

from npu_dialect.tosa_export.ops import (
    arithmetic,
    contractions,
    functions,
    movement,
    pooling,
    quantization,
    reductions,
    rescaling,
    selection,
)

TOPICS = (
    arithmetic, contractions, functions, movement, pooling, quantization, reductions,
    rescaling, selection,
)  # fmt: skip
