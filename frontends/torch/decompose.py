"""Which operators of an exported program are taken apart before the import.

Torch's own table turns an attention into a safe softmax and a recurrent layer into its steps. Here
an operator that has an importer stays whole; torch decomposes the others. An importer that cannot
say one of its calls (`NotExpressible`) gives the operator back to torch, see `importer.load`.
"""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from typing import Any

from npu_dialect.frontends.torch import own_steps, user_lowerings
from npu_dialect.frontends.torch.package import quiet, torch
from npu_dialect.frontends.torch.passes import separate_copies
from npu_dialect.frontends.torch.registry import TABLE

CHECKED = frozenset(
    f"aten.{name}.default"
    for name in ("cholesky", "inverse", "linalg_cholesky", "linalg_inv", "linalg_ldl_factor",
                 "linalg_lu_factor", "linalg_solve", "linalg_tensorinv", "linalg_tensorsolve")
)  # fmt: skip
"""Operators whose steps raise errors that depend on values: they stay whole, for the host."""


def decompose(program: Any, given_back: Set[str] = frozenset()) -> Any:
    """The program in operators of the table, and core ATen; without mutation."""
    kept = (TABLE.keys() - given_back) | user_lowerings.TABLE.keys() | CHECKED
    table = {op: steps for op, steps in _steps().items() if str(op) not in kept}
    with quiet():
        return separate_copies.run(program).run_decompositions(table)


def can_decompose(name: str) -> bool:
    """Whether torch has steps for the operator."""
    return any(str(operator) == name for operator in _steps())


@cache
def _steps() -> dict[Any, Any]:
    """Torch's own decompositions, and ours, by operator."""
    return dict(torch().export.default_decompositions().materialize()) | own_steps.table()
