"""The importers, one file for each topic; importing this fills the table."""

from __future__ import annotations

from npu_dialect.frontends.torch.ops import (
    attention,
    complex_numbers,
    contraction,
    distance,
    elementwise,
    fourier,
    indexing,
    movement,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    resizing,
    sampling,
    scans,
    sorting,
    transcendental,
)

TOPICS = (
    attention,
    complex_numbers,
    contraction,
    distance,
    elementwise,
    fourier,
    indexing,
    movement,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    resizing,
    sampling,
    scans,
    sorting,
    transcendental,
)
"""The modules that enter rows."""
