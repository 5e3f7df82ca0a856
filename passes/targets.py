"""The target of a module, for passes."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from npu_dialect.diagnostics import Code, error
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.target import Target, TargetError, load_target


def module_target(module: ModuleOp) -> Target:
    """The target that the module names. Raises CompileError where it names none, or one that does
    not exist.
    """
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
