"""What would bring an operation to the accelerator, for every rule that can forbid it."""

from __future__ import annotations

from collections.abc import Mapping

QUANTIZE = "quantizing the model to integers (--quantize int8 --calibrate samples.npz)"

REMEDIES: Mapping[str, str] = {
    "elements-exist": "a model without tensors of no elements",
    "array-types": QUANTIZE,
    "sum-types": "activations of 8 bits, or a target whose acc_types hold the sums",
    "one-weight-zero": "quantizing the weights symmetrically: zero points of 0",
    "constant-bias": "a bias that is an initializer, or an addition after the operator",
    "window-fields": "smaller strides, dilations, windows or padding, in several operators",
    "vector-types": f"{QUANTIZE}, or a cast to a type that the vector unit stores",
    "vector-lanes": f"{QUANTIZE}, or a cast to a type that the vector unit computes with",
    "vector-micro-ops": f"{QUANTIZE}, or an activation that the target has",
    "vector-operands": "the operator in two steps",
    "vector-rank": "merging dimensions with a Reshape",
    "pooling-micro-ops": QUANTIZE,
    "reduction-kind": "a reduction by sum, mean, max or min",
    "copy-rank": "merging dimensions with a Reshape, or the movement in two steps",
    "gather-indices": "a cast of the indices to int32",
    "scatter-indices": "a cast of the indices to int32",
    "scatter-kind": "another reduction of the operator, or none",
    "several-steps": QUANTIZE,
    "tile-fits": "a larger scratchpad (`memories.spm` of the target file)",
    "unrolled-steps": "a shorter sequence in one run, with the state as input and output",
    "expressible": "another opset, or other operators for the same",
    "override": "leaving the operation out of the overrides file",
    "moves-among-host": "bringing the operations beside it to the accelerator",
}
"""By rule, what completes "try ..."."""

BY_CAUSE: Mapping[str, str] = {
    "whose number of steps is known at run time": "a bound of few steps: i < n and the condition",
    "a custom operator": "a lowering of the operator to operations of graph",
    "is computed at run time": "making it an initializer, or binding it when compiling",
    "f64": "a cast to float32",
    "i64": "a cast to int32",
}
"""What is better, where what was found says so."""


def remedy(rule: str, found: str) -> str:
    """What to try against a rule, or "" for a rule that knows no way."""
    for text, better in BY_CAUSE.items():
        if text in found.partition(", and ")[0]:
            return better
    return REMEDIES.get(rule, "")
