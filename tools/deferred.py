"""Methods of dataclasses that are compiled when they are first called.

`dataclass` compiles the text of up to six functions for every class while a module is imported. A
compilation imports 530 such classes, half of them xDSL's, and hardly compares, prints or assigns to
any; that took a sixth of the processor time of compiling a small model. Here all functions but
`__init__`, whose signature others look at, are compiled at their first call and then stand in the
class as they always do.

This replaces a private function of Python 3.11 and 3.12, for the process of a command-line tool
alone. Where that function is another one, nothing is done: Python 3.13 compiles one text for each
class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

FUNCTION = "_create_fn"
PARAMETERS = "name", "args", "body", "globals", "locals", "return_type"
"""What it takes where it is the one that is known here."""
AT_ONCE = ("__init__",)

Function = Callable[..., Any]


def defer_methods() -> None:
    """From now on methods of dataclasses are compiled when they are first called."""
    create: Any = getattr(dataclasses, FUNCTION, None)
    code = getattr(create, "__code__", None)
    if code is not None and code.co_varnames[: len(PARAMETERS)] == PARAMETERS:
        setattr(dataclasses, FUNCTION, _deferring(create))


def _deferring(create: Function) -> Function:
    def deferred(name: str, *args: Any, **options: Any) -> Function:
        if name in AT_ONCE:
            return create(name, *args, **options)
        return _at_first_call(name, lambda: create(name, *args, **options))

    return deferred


def _at_first_call(name: str, create: Callable[[], Function]) -> Function:
    """A method that creates what it does when it is first called, and leaves its place to that."""
    made: list[Function] = []

    def first(self: Any, *args: Any) -> Any:
        if not made:
            made.append(create())
            for owner in type(self).__mro__:
                if vars(owner).get(name) is first:
                    setattr(owner, name, made[0])
        return made[0](self, *args)

    first.__name__ = name
    return first
