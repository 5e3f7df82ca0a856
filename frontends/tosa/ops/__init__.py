"""The importers, by topic; importing this fills the table."""

from npu_dialect.frontends.tosa.ops import (
    contractions,
    elementwise,
    functions,
    integers,
    movement,
    pooling,
    reductions,
    rescaling,
    resizing,
    spectra,
)

TOPICS = (
    contractions, elementwise, functions, integers, movement, pooling, reductions, rescaling,
    resizing, spectra,
)  # fmt: skip
