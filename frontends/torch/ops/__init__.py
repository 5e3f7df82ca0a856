"""The importers, one file for each topic; importing this fills the table."""

from __future__ import annotations

from npu_dialect.frontends.torch.ops import (
    attention,
    contraction,
    elementwise,
    indexing,
    movement,
    normalization,
    pooling,
    recurrent,
    reduction,
    resizing,
    transcendental,
)

TOPICS = (
    attention,
    contraction,
    elementwise,
    indexing,
    movement,
    normalization,
    pooling,
    recurrent,
    reduction,
    resizing,
    transcendental,
)
"""The modules that enter rows."""
