"""What must hold of states: in the IR, in programs, and in what sessions are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npu_programs import binding, copy, dense, program, waits
from stateful import COUNTER, Builder, module_of

from npu_dialect import dtypes, graph, pipeline, text
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import i8
from npu_dialect.graph.base import tensor_type
from npu_dialect.graph.states import State, set_states, states_of, zeros
from npu_dialect.levels import main
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.runtime.program import Program, StateBinding
from npu_dialect.runtime.simulator import Session
from npu_dialect.target import load_target

# In the IR


def test_states_are_read_back_from_text(tmp_path: Path):
    module = COUNTER.module()
    text.write(tmp_path / "m.mlir", module)
    again = text.read(tmp_path / "m.mlir")
    assert states_of(main(again)) == states_of(main(module)) != ()


WRONG = {
    "a type of its own": ([State("h", 0, 1)], "argument and the result of a state must have the"),
    "no argument": ([State("h", 7, 0)], "must be one of the function's 2; found argument 7"),
    "nothing": ([State("h")], "an argument or a result of the function, or both; found neither"),
    "one name twice": ([State("h", 0), State("h", 1)], "its own name; found name h twice"),
    "one argument twice": (
        [State("g", 0), State("h", 0)],
        "its own argument; found argument 0 twice",
    ),
    "one result twice": (
        [State("g", 0, 0), State("h", 1, 0)],
        "its own result; found result 0 twice",
    ),
    "another content": (
        [State("h", 0, 0, BlobAttr.of(np.zeros(3, np.float32)))],
        r"initial content of state h must have the storage of tensor<4xf32>; found f32\[3\]",
    ),
}


@pytest.mark.parametrize(("states", "line"), WRONG.values(), ids=WRONG)
def test_states_that_do_not_fit_are_refused(states: list[State], line: str):
    b = Builder()
    x, n = b.argument("x", (4,)), b.argument("n", (4,))
    function = b.function({"y": b.add(graph.AddOp(x, n)), "z": b.constant(np.zeros(2, np.float32))})
    with pytest.raises(CompileError, match=f"NPU0202.*{line}"):
        set_states(function, states)


@pytest.mark.parametrize(
    ("row", "line"),
    {
        "no name": ('{argument = 0 : i64}', "a state must have a name"),
        "another field": ('{name = "n", argument = 0 : i64, size = 4 : i64}', "a state must have"),
        "no dictionary": ("3 : i64", "npu.states must be a list of dictionaries"),
    }.values(),
)  # fmt: skip
def test_an_attribute_that_is_no_state_is_refused(row: str, line: str):
    module = text.parse(
        "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> attributes {npu.states = ["
        + row
        + "]}"
        "{ func.return %x : tensor<4xf32> }"
    )
    with pytest.raises(CompileError, match=f"NPU0202.*{line}"):
        pipeline.verify(module)


def test_functions_must_agree_on_the_content_of_a_state():
    def entry(name: str, start: float) -> Any:
        b = Builder()
        n = b.argument("n", (4,))
        return b.function({"n'": n}, {"n": np.full(4, start, np.float32)}, name)

    with pytest.raises(CompileError, match="NPU0202.*one initial content; found another one in @a"):
        pipeline.verify(module_of(entry("a", 1), entry("b", 2)))


def test_zero_of_a_quantized_type_is_its_zero_point():
    for shape in ((), (2, 3)):
        kind = tensor_type(shape, graph.uniform(i8, 0.5, -7))
        assert zeros(kind).tolist() == np.full(shape, -7).tolist()
    per_axis = graph.uniform(i8, np.array([0.5, 1.0]), np.array([1, 2]), 1)
    assert zeros(tensor_type((3, 2), per_axis)).tolist() == [[1, 2]] * 3


# In programs

TARGET = load_target("edge256")
PLACE = dense("dram", 64, i8, [16])
BUFFER = dense("spm", 0, i8, [16])


def found(
    *ops: Instruction, writable: bool = True, constants: tuple[tuple[int, int], ...] = ()
) -> list[str]:
    states = [("h", PLACE, writable)]
    image = ProgramImage(list(ops), (), [], [], constants, 256, states)
    return [f.rule for f in verify_program(image, TARGET)]


def test_a_state_is_defined_before_the_first_instruction():
    assert found(copy(PLACE, BUFFER)) == []


def test_a_state_that_is_read_only_is_not_written():
    ops = copy(PLACE, BUFFER), copy(BUFFER, PLACE, waits=waits(dma=1))
    assert found(*ops) == []
    (rule,) = found(*ops, writable=False)
    assert "must not write a state that the program only reads" in rule


def test_nothing_is_written_across_the_end_of_a_state():
    ops = copy(PLACE, BUFFER), copy(BUFFER, dense("dram", 72, i8, [16]))
    assert any("must write inside one state, or outside of all" in rule for rule in found(*ops))


def test_a_state_has_a_place_of_its_own():
    assert any("a place in dram of its own" in rule for rule in found(constants=((60, 8),)))


def test_a_state_lies_in_dram():
    far = dense("dram", 250, i8, [16])
    image = ProgramImage([], (), [], [], [], 256, [("h", far, True)])
    assert verify_program(image, TARGET)


# In files


def with_state(**fields: Any) -> Program:
    """A program that copies its state to its output."""
    out = dense("dram", 128, i8, [16])
    made = program([copy(PLACE, out)], outputs={"y": out}, dram_size=256)
    given: dict[str, Any] = vars(binding("h", PLACE)) | {"initial": None} | fields
    entry = replace(made.selected, states={"h": "read"})
    return replace(made, entries={"main": entry}, states=(StateBinding(**given),))


DAMAGE: Mapping[str, Callable[[], Program]] = {
    "a content of another shape": lambda: with_state(initial=np.zeros(3, np.int8)),
    "a content of another type": lambda: with_state(initial=np.zeros(16, np.int32)),
    "a place elsewhere": lambda: with_state(operand=dense("spm", 0, i8, [16])),
    "a place outside of dram": lambda: with_state(operand=dense("dram", 250, i8, [16])),
    "a place that is too small": lambda: with_state(operand=dense("dram", 64, i8, [8])),
    "two of one name": lambda: replace(with_state(), states=with_state().states * 2),
    "a use of another": lambda: replace(with_state(), states=()),
    "no entry": lambda: replace(with_state(), entries={}),
}


@pytest.mark.parametrize("make", DAMAGE.values(), ids=DAMAGE)
def test_a_file_with_states_that_do_not_fit_is_refused(make: Callable[[], Program]):
    data = make().to_bytes()
    with pytest.raises(CompileError, match="NPU0401"):
        Program.from_bytes(data)


def test_the_content_of_a_state_is_kept_in_the_file():
    start = np.arange(16, dtype=np.int8)
    loaded = Program.from_bytes(with_state(initial=start).to_bytes())
    assert Session(loaded, tier="plain").run({}).outputs["y"].tolist() == start.tolist()


# In sessions


def session() -> Session:
    return Session(with_state(initial=np.arange(16, dtype=np.int8)), tier="plain")


def test_a_state_is_set_read_and_reset():
    s = session()
    s.state["h"] = np.full(16, 5, np.int8)
    assert s.run({}).outputs["y"].tolist() == [5] * 16
    s.reset("h")
    assert s.state["h"].tolist() == list(range(16))
    assert (list(s.state), len(s.state), "h" in s.state, "g" in s.state) == (["h"], 1, True, False)


def test_what_is_read_of_a_state_is_a_copy():
    s = session()
    s.state["h"][:] = 9
    assert s.state["h"].tolist() == list(range(16))


@pytest.mark.parametrize(
    ("name", "array", "line"),
    {
        "a name": ("g", np.zeros(16, np.int8), r"NPU0501.*one of the program's \(h\); found g"),
        "a shape": ("h", np.zeros(4, np.int8), r"NPU0502.*must have shape \[16\]; found \[4\]"),
        "a type": ("h", np.zeros(16), "NPU0503.*must have element type int8; found float64"),
    }.values(),
)
def test_a_state_takes_only_what_fits(name: str, array: Any, line: str):
    with pytest.raises(CompileError, match=line):
        session().state[name] = array
    with pytest.raises(CompileError, match=line):
        session().set_initial({name: array})


def test_a_state_cannot_be_deleted():
    with pytest.raises(CompileError, match="NPU0004.*must stay"):
        del session().state["h"]


def test_the_place_of_a_state_is_that_of_its_binding():
    (state,) = with_state().states
    assert isinstance(state.operand, Operand) and state.dtype is dtypes.i8
