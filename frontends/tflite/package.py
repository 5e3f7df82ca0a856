"""The package `tflite`, which has the schema of the format: imported when it is needed."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, cast

from npu_dialect.diagnostics import Code, error


@cache
def schema() -> Any:
    """The tables and enumerations of the package `tflite`, by name. Raises CompileError (NPU0007)
    where it is missing.
    """
    if sys.modules.get("tflite") is None:
        sys.modules["tflite"] = _Unfilled.of(_spec())
    return _Schema()


class _Schema:
    """Each table and enumeration is a class in a module of its name, imported when it is used."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(f"tflite.{name}"), name)
        setattr(self, name, found)
        return found


class _Unfilled(ModuleType):
    """The package before its own code runs, which imports all of its 190 modules: that takes longer
    than to read a small model. It runs when somebody asks for something that is not there yet.
    """

    @staticmethod
    def of(spec: ModuleSpec) -> ModuleType:
        module = module_from_spec(spec)
        module.__class__ = _Unfilled
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, ModuleType):  # the package has classes by the names of its modules
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(name)
        object.__setattr__(self, "__class__", ModuleType)
        spec.loader.exec_module(self)
        return getattr(self, name)


def _spec() -> ModuleSpec:
    spec = find_spec("tflite")
    if spec is None:
        raise error(
            Code.PACKAGE_MISSING,
            "the package tflite must be installed to read .tflite files",
            found="no such package",
            remedy="pip install 'npu-dialect[tflite]'",
            source="tflite",
        )
    return spec


@cache
def names(enum: str) -> dict[int, str]:
    """The names of an enumeration of the schema, by number."""
    found = cast("dict[str, Any]", vars(getattr(schema(), enum)))
    return {n: name for name, n in found.items() if isinstance(n, int) and name[0] != "_"}
