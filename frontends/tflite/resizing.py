"""The free dimensions of a model, bound to other sizes: a batch, as a rule.

    x [1, 49, 10, 1], signature [-1, 49, 10, 1]      --shape x=8,49,10,1
    y [1, 12], signature [-1, 12]                    ->  x [8, 49, 10, 1], y [8, 12]

A file has sizes for all dimensions, and says which of them are free. Those of inputs are bound;
those of results follow (shapes.py). Where no rule says them, they are taken to grow as the inputs
do, if all of these grow alike; where an operator does not agree, the importer says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.frontends.onnx.errors import refuse
from npu_dialect.frontends.tflite.model import MAX_BYTES, Model, Tensor
from npu_dialect.frontends.tflite.shapes import is_free

Shapes = Mapping[str, Sequence[int]]


def inputs_of(model: Model) -> dict[str, Tensor]:
    """The inputs of a model by their names."""
    return {model.main.tensors[k].name: model.main.tensors[k] for k in model.main.inputs}


def resized(model: Model, shapes: Shapes) -> Model:
    """The model with other shapes of inputs, by name. Raises CompileError (NPU0105)."""
    if not shapes:
        return model
    inputs = inputs_of(model)
    stated = ", ".join(map(_shown, inputs.values()))
    for name in shapes:
        if name not in inputs:
            rule = "a shape must be given for an input of the model"
            raise refuse(Code.SHAPE_BINDING, name, rule, f"{name!r}; the inputs are {stated}")
    ratios = {ratio for name, shape in shapes.items() for ratio in _ratios(inputs[name], shape)}
    if not ratios:
        return model
    given = {inputs[name].index: tuple(shape) for name, shape in shapes.items()}
    main = model.main
    tensors = tuple(
        _bound(t, given[t.index]) if t.index in given else _grown(t, ratios) for t in main.tensors
    )
    graphs = tuple(
        replace(g, tensors=tensors if g is main else tuple(_grown(t, ratios) for t in g.tensors))
        for g in model.subgraphs
    )
    return replace(model, subgraphs=graphs)


def _ratios(tensor: Tensor, shape: Sequence[int]) -> set[tuple[int, int]]:
    """The size that was given and the one that is stated, of the free dimensions that differ."""
    free = tensor.signature or tensor.shape
    fits = len(shape) == len(tensor.shape) and all(
        new > 0 and (new == old or size < 0)
        for new, old, size in zip(shape, tensor.shape, free, strict=False)
    )
    if not fits:
        raise _misfit(tensor, shape)
    return {(new, old) for new, old in zip(shape, tensor.shape, strict=True) if new != old}


def _misfit(tensor: Tensor, shape: Sequence[int]) -> CompileError:
    rule = f"a shape given for {_shown(tensor)} must fit it (? is free)"
    remedy = ""
    if all(size >= 0 for size in tensor.signature):
        remedy = "converting the model with a free dimension, -1 in its shape signature"
    return refuse(Code.SHAPE_BINDING, tensor.name, rule, ",".join(map(str, shape)), remedy)


def _shown(tensor: Tensor) -> str:
    sizes = zip(tensor.shape, tensor.signature or tensor.shape, strict=False)
    return f"{tensor.name}[{', '.join('?' if free < 0 else str(size) for size, free in sizes)}]"


def _bound(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An input of another shape."""
    if prod(shape) * 8 > MAX_BYTES:
        rule = f"no tensor must have more than {MAX_BYTES >> 30} GiB"
        raise refuse(Code.SHAPE_BINDING, tensor.name, rule, str(list(shape)))
    return replace(tensor, shape=shape)


def _grown(tensor: Tensor, ratios: set[tuple[int, int]]) -> Tensor:
    """A tensor whose free dimensions grow as those of the inputs, if these grow alike."""
    if len(ratios) != 1 or not is_free(tensor):
        return tensor
    ((new, old),) = ratios
    pairs = zip(tensor.shape, tensor.signature, strict=True)
    shape = tuple(size * new // old if free < 0 else size for size, free in pairs)
    return tensor if prod(shape) * 8 > MAX_BYTES else replace(tensor, shape=shape)
