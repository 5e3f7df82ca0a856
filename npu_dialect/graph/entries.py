"""Several modules as one with an entry for each: functions that share constants and states.

prefill: module { func.func @main ... }          module {
decode:  module { func.func @main ... }   ->       func.func @prefill ...
                                                   func.func @decode ... }
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp

from npu_dialect.diagnostics import Code, error
from npu_dialect.graph import states

KEPT_BY_FUNCTIONS = ("npu.nodes",)
"""Attributes of a module that speak of its one function."""


def merge(modules: Mapping[str, ModuleOp]) -> ModuleOp:
    """One module with the function of each, called by the names given; the modules are taken apart.

    Raises CompileError (NPU0202) for a module that has not exactly one function, for modules that
    disagree on an attribute such as the target, and where states of one name do not agree.
    """
    result = ModuleOp([])
    for name, module in modules.items():
        function = _only_function(name, module)
        for key, value in module.attributes.items():
            if key in KEPT_BY_FUNCTIONS:
                function.attributes[key] = value
            elif result.attributes.setdefault(key, value) != value:
                raise error(
                    Code.IR_INVALID,
                    f"the modules of one program must have the same {key}",
                    found=f"{value}, and {result.attributes[key]} in an other",
                    source=name,
                )
        function.detach()
        function.properties["sym_name"] = StringAttr(name)
        result.body.block.add_op(function)
    states.check(result)
    return result


def _only_function(name: str, module: ModuleOp) -> FuncOp:
    found = list(module.body.ops)
    if len(found) != 1 or not isinstance(found[0], FuncOp):
        raise error(
            Code.IR_INVALID,
            "a module must have one function to become an entry",
            found=", ".join(str(getattr(op, "sym_name", op.name)) for op in found) or "none",
            remedy="modules at level graph, as imported",
            source=name,
        )
    return found[0]
