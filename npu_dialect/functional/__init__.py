"""The meaning of every operation on blocks: contractions, pooling, reductions and indexed rows of
numpy arrays.

The graph, tile and npu levels all evaluate with these functions. Results are the same bits however
the work is cut into blocks, and on every host.
"""

from __future__ import annotations

from npu_dialect.functional.contraction import conv2d, depthwise_conv2d, matmul
from npu_dialect.functional.indexing import gather, scatter
from npu_dialect.functional.pooling import avg_pool2d, max_pool2d, sum_pool2d
from npu_dialect.functional.reduction import reduce
from npu_dialect.functional.weights import Weights, prepare_weights
from npu_dialect.functional.windows import output_size

__all__ = [
    "Weights",
    "avg_pool2d",
    "conv2d",
    "depthwise_conv2d",
    "gather",
    "matmul",
    "max_pool2d",
    "output_size",
    "prepare_weights",
    "reduce",
    "scatter",
    "sum_pool2d",
]
