"""Dataclasses whose methods are compiled at their first call behave as those of Python do."""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest

from npu_dialect.tools import deferred


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch):
    """Other tests have Python's own."""
    own: Any = getattr(dataclasses, deferred.FUNCTION, None)
    if own is None:
        pytest.skip("this Python compiles methods otherwise: nothing is deferred")
    monkeypatch.setattr(dataclasses, deferred.FUNCTION, own)
    deferred.defer_methods()


def test_methods_are_compiled_at_the_first_call_and_then_stand_in_the_class():
    @dataclass(frozen=True)
    class Point:
        x: int

    before = vars(Point)["__eq__"]
    assert Point(1) == Point(1)
    assert Point(1) != Point(2)
    after = vars(Point)["__eq__"]
    assert before is not after
    assert after.__code__.co_filename == "<string>"  # what dataclass compiled


def test_what_is_frozen_cannot_be_changed_and_is_hashed_by_value():
    @dataclass(frozen=True)
    class Point:
        x: int
        y: tuple[int, ...] = ()

    point = Point(1, (2,))
    for _ in range(2):
        with pytest.raises(FrozenInstanceError):
            setattr(point, "x", 3)  # noqa: B010 - a type checker refuses it otherwise
        with pytest.raises(FrozenInstanceError):
            delattr(point, "x")
        assert hash(point) == hash((1, (2,))) == hash(replace(point))
        assert repr(point).endswith("Point(x=1, y=(2,))")


def test_a_subclass_has_what_its_base_compiled():
    @dataclass(frozen=True)
    class Base:
        x: int

    class Plain(Base):
        pass

    @dataclass(frozen=True)
    class Derived(Base):
        y: int = 0

    assert Plain(1) == Plain(1)
    assert hash(Plain(1)) == hash(Base(1))
    assert Derived(1, 2) == Derived(1, 2)
    assert Derived(1, 2) != Derived(1, 3)
    with pytest.raises(FrozenInstanceError):
        setattr(Derived(1), "y", 1)  # noqa: B010


def test_order_slots_and_fields_that_do_not_compare_are_as_always():
    @dataclass(order=True, slots=True)
    class Entry:
        key: int
        note: str = field(default="", compare=False, repr=False)

    assert sorted([Entry(2), Entry(1, "x")]) == [Entry(1), Entry(2)]
    assert Entry(1) <= Entry(1)
    assert not hasattr(Entry(1), "__dict__")
    assert repr(Entry(1, "x")).endswith("Entry(key=1)")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Entry(1))


def test_a_function_that_is_not_the_known_one_stays(monkeypatch: pytest.MonkeyPatch):
    def other(name: str, text: str) -> None: ...

    monkeypatch.setattr(dataclasses, deferred.FUNCTION, other)
    deferred.defer_methods()
    assert getattr(dataclasses, deferred.FUNCTION) is other
