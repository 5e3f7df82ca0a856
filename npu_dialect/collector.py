"""How often Python looks for garbage in cycles while a model is compiled."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

RARELY = 200_000, 20, 20
"""The thresholds of Python's collector while it runs rarely."""


@contextmanager
def rarely_collecting() -> Generator[None]:
    """Python looks for garbage in cycles a few times only, as IR makes many objects and little of
    that: looking often takes a third of a compilation of ResNet-50.
    """
    before = gc.get_threshold()
    if before == RARELY:
        yield
        return
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
