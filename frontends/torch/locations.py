"""Where a node comes from: the path of its module, and the line of the user's code."""

from __future__ import annotations

import re
from typing import Any

from xdsl.dialects.builtin import LocationAttr

from npu_dialect import provenance

FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')

LIBRARY = re.compile(r"[/\\]torch[/\\]")
"""Files of torch itself, which are not the user's."""


def module_path(node: Any) -> str:
    """`layer1.0.conv1`: the innermost module that calls the node, "" for the whole model."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return _clean(paths[-1]) if paths else ""


def _clean(path: str) -> str:
    path = path.removeprefix("L['self']").lstrip(".")
    return re.sub(r"\._modules\['([^']+)'\]", r".\1", path)


def is_users(file: str) -> bool:
    """Whether a file is the user's: neither torch's own nor code that torch generated."""
    return bool(file) and not file.startswith("<") and not LIBRARY.search(file)


def source_line(node: Any) -> tuple[str, int]:
    """File and line of the innermost frame that is not torch's own; ("", 0) if there is none."""
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if is_users(frame[0])]
    own = own or [frame for frame in frames if not frame[0].startswith("<")]
    return (own[-1][0], int(own[-1][1])) if own else ("", 0)


def name_of(node: Any) -> str:
    """The module's path, or the node's own name at the top."""
    return module_path(node) or str(node.name)


def location_of(node: Any) -> LocationAttr:
    """The location of what a node becomes."""
    file, line = source_line(node)
    return provenance.name_location(name_of(node), file, line)


def written(node: Any) -> str:
    """`model.py:12`, or "" where it is not known."""
    file, line = source_line(node)
    return f"{file}:{line}" if file else ""
