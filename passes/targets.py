"""The target of a module, for passes."""

from __future__ import annotations

from dataclasses import replace

from xdsl.dialects.builtin import IntegerAttr, ModuleOp

from npu_dialect import rice
from npu_dialect.diagnostics import Code, error
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.target import Target, TargetError, load_target

SCRATCHPAD = "npu.scratchpad"
"""Where a module says how many bytes of the scratchpad it may use, if not all."""
UNCODED = "npu.uncoded"
"""What a module carries that has its constants without the code of `npu_dialect/rice.py`."""


def module_target(module: ModuleOp) -> Target:
    """The target that the module names, with as much of its scratchpad and the codecs that the
    module may use. Raises CompileError where it names none, or one that does not exist.
    """
    target = _named(module)
    if UNCODED in module.attributes:
        codecs = tuple(name for name in target.dma.codecs if name != rice.NAME)
        target = replace(target, dma=replace(target.dma, codecs=codecs, decoded_bytes=0.0))
    limit = module.attributes.get(SCRATCHPAD)
    if not isinstance(limit, IntegerAttr):
        return target
    spm = target.memories["spm"]
    size = min(spm.size, limit.value.data)
    return replace(target, memories={**target.memories, "spm": replace(spm, size=size)})


def _named(module: ModuleOp) -> Target:
    attribute = module.attributes.get("npu.target")
    if not isinstance(attribute, TargetAttr):
        raise error(
            Code.TARGET_UNKNOWN,
            "a module must name its target before it is lowered",
            found="no npu.target attribute",
            remedy="--target edge256",
        )
    try:
        return load_target(attribute.data)
    except TargetError as unknown:
        raise error(Code.TARGET_UNKNOWN, str(unknown)) from unknown
