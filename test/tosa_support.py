"""What the tests of TOSA share: parts of random graphs, and other tools where there are any."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from random_graphs import Graph
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from npu_dialect import graph

SEARCHED = ("/usr/lib/llvm-22/bin", "/usr/lib/llvm-23/bin")


def tool(name):
    """The path of a tool of MLIR or of Arm's tosa-tools, None where there is none."""
    folders = os.pathsep.join([os.environ.get("NPU_TOSA_TOOLS", ""), *SEARCHED])
    return shutil.which(name) or shutil.which(name, path=folders)


TARGET = (
    "--tosa-attach-target=profiles=pro_int,pro_fp level=8k "
    "extensions=int16,int4,doubleround,inexactround,controlflow,variable"
)
"""What `mlir-opt` checks the use of: both profiles, limits of sizes, what is beyond both."""


def mlir_opt(text):
    """What `mlir-opt` says against a text that a device of level 8K takes; None for nothing."""
    command = [tool("mlir-opt"), TARGET, "--tosa-validate", "--verify-each", "-o", os.devnull]
    found = subprocess.run(command, input=text, capture_output=True, text=True)
    return None if found.returncode == 0 else found.stderr[:1000]


def reference_model(folder: Path, text, inputs, count):
    """The outputs of Arm's reference model, in integers and in floats of its own precision."""
    (folder / "m.mlir").write_text(text)
    made = [tool("tosa-opt"), "--tosa-convert-integer-type-to-signless", "--tosa-serialize",
            f"--tosa-flatbuffer-filename={folder / 'm.tosa'}", str(folder / "m.mlir")]  # fmt: skip
    subprocess.run([*made, "-o", os.devnull], check=True, capture_output=True)
    for k, array in enumerate(inputs):
        np.save(folder / f"in{k}.npy", array)
    listed = lambda form, n: ",".join(form.format(k) for k in range(n))  # noqa: E731
    command = [
        tool("tosa_reference_model"), f"--tosa_file={folder / 'm.tosa'}", "--tosa_level=NONE",
        f"--flatbuffer_dir={folder}", f"--output_dir={folder}",
        f"--ifm_name={listed('TosaInput_{}', len(inputs))}",
        f"--ifm_file={listed('in{}.npy', len(inputs))}",
        f"--ofm_name={listed('TosaOutput_{}', count)}", f"--ofm_file={listed('out{}.npy', count)}",
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, re.sub(r"\s+", " ", found.stdout + found.stderr)[:600]
    return [np.load(folder / f"out{k}.npy") for k in range(count)]


def stored(array):
    """An array as TOSA stores it: bytes without a sign have one."""
    return array.view(np.int8) if array.dtype == np.uint8 else array


def parts(seed, kinds, size=8, depth=2) -> Iterator[tuple[ModuleOp, list, list]]:
    """A module for each operation of a random graph, with those before it up to a depth; its inputs
    and what it gives.
    """
    maker = Graph(seed, "mobile4k", kinds)
    for _ in range(size):
        maker.grow()
    values: dict[Any, Any] = dict(zip(maker.block.args, maker.inputs, strict=True))
    ops = [op for op in maker.block.ops if isinstance(op, graph.GraphOp)]
    for op in ops:
        if len(op.results) == 1:
            values[op.results[0]] = op.evaluate(*(values[v] for v in op.operands))[0]
    for op in ops:
        if not isinstance(op, graph.ConstantOp) and len(op.results) == 1:
            module, leaves = _cone(op, depth)
            yield module, [values[v] for v in leaves], [values[op.results[0]]]


def _cone(op, depth):
    """The module of an operation and those that it reads; the values that become arguments."""
    block, made, leaves = Block(), {}, []

    def value(v, left):
        if v in made:
            return made[v]
        owner = v.owner
        if isinstance(owner, graph.ConstantOp) or (left and isinstance(owner, graph.GraphOp)):
            operands = [value(x, left - 1) for x in owner.operands]
            copy = owner.clone(dict(zip(owner.operands, operands, strict=True)))
            copy.location = owner.location
            block.add_op(copy)
            made[v] = copy.results[0]
        else:
            leaves.append(v)
            made[v] = block.insert_arg(v.type, len(block.args))
        return made[v]

    result = value(op.results[0], depth + 1)
    block.add_op(ReturnOp(result))
    kind = FunctionType.from_lists(block.arg_types, [result.type])
    return ModuleOp([FuncOp("main", kind, Region(block))]), leaves


def agree(found, expected):
    """Whether integers are the same and floats close."""
    if expected.dtype.kind in "iub":
        return np.array_equal(found, stored(expected))
    with np.errstate(all="ignore"):
        return np.allclose(found, expected, rtol=2e-5, atol=1e-6, equal_nan=True)


def is_finite(arrays):
    """Whether all floats are numbers of moderate size, of which TOSA says what they give."""
    floats = [a.astype(np.float64) for a in arrays if a.dtype.kind == "f"]
    return all(bool((np.abs(a) < 1e30).all()) for a in floats)
