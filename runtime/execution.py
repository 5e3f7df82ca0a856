"""How a run was simulated: by which tier, and what that left to the plain one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Execution:
    """How a session executes its instructions."""

    tier: str
    """compiled, torch or plain; none where only times were asked for."""
    threads: int = 1
    instructions: int = 0
    """How many are executed in a run."""
    native: int = 0
    """How many of them run as native code, the elided ones included."""
    elided: int = 0
    """How many copies of constants are left out, since nothing reads what they write."""
    fallbacks: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """What a compiled program leaves to the plain tier: by instruction name, the reasons and how
    many instructions each concerns.
    """
