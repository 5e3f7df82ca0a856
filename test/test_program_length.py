"""Programs that would be too long to make are refused at once."""

from __future__ import annotations

import pytest
from test_mapping import chain

from npu_dialect import api
from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.program_length import check_length, executed
from npu_dialect.passes.tile_allocate import tile_functions
from npu_dialect.tile import CopyOp, HostOp, KernelOp
from npu_dialect.tile.walk import walk

COUNTED = (CopyOp, HostOp, KernelOp)


def test_operations_are_counted_as_they_are_executed():
    build = chain("edge256", 2)
    module = build.module(build.result)  # type: ignore[attr-defined]
    api.lower(module, "tile")
    (function,) = tile_functions(module)
    events: list[object] = []
    walk(function, lambda event: events.append(event.op))
    assert executed(function).total() == sum(isinstance(op, COUNTED) for op in events)


def test_a_program_that_is_too_long_is_refused_with_the_layer_that_makes_it_so():
    build = chain("edge256", 2)
    module = build.module(build.result)  # type: ignore[attr-defined]
    api.lower(module, "tile")
    (function,) = tile_functions(module)
    with pytest.raises(CompileError, match=r"at most 3 operations on tiles.* very small"):
        check_length(function, most=3)
