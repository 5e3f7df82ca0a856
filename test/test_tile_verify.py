"""What the verifier finds, and what the interpreter does with it."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

from npu_dialect import text
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.tile.interpret import Recorder, run
from npu_dialect.tile.verify import check, verify

NEG = '#npu.kernel<"(t0: i8) -> i8: v0 = neg.i32 t0">'


def nest(code: str, before: str = "") -> FuncOp:
    """@main(%in, %out) of 8 bytes, around `code`."""
    module = text.parse(
        before
        + 'func.func @main(%in : memref<8xi8, "dram">, %out : memref<8xi8, "dram">) {'
        + code.replace("DRAM", 'memref<8xi8, "dram">').replace("SPM", 'memref<8xi8, "spm">')
        + "\nfunc.return\n}"
    )
    module.verify()
    func = module.body.block.last_op
    assert isinstance(func, FuncOp)
    return func


def rules(func: FuncOp) -> list[str]:
    records = check(func)
    assert all(r.code is Code.IR_INVALID for r in records)
    return [r.rule for r in records]


GOOD = f"""
  %x = tile.alloc : SPM
  %t = tile.copy %in to %x : DRAM to SPM
  tile.wait %t
  tile.vector ins(%x : SPM) out(%x : SPM) {{kernel = {NEG}}}
  %u = tile.copy %x to %out : SPM to DRAM
  tile.wait %u
"""
INPUT = np.arange(8, dtype=np.int8)
POISON = np.full(8, 0xA5, np.uint8).view(np.int8)


def test_a_good_function_passes():
    verify(nest(GOOD))
    (out,) = run(nest(GOOD), [INPUT])
    np.testing.assert_array_equal(out, -INPUT)


def test_a_copy_that_is_not_waited_for_never_happens():
    func = nest(GOOD.replace("tile.wait %t", ""))
    assert "tile.copy: every copy must be waited for" in rules(func)
    assert any("must have been written and waited for" in r for r in rules(func))
    (out,) = run(func, [INPUT])
    np.testing.assert_array_equal(out, -POISON)


def test_a_store_that_is_not_waited_for_never_happens():
    func = nest(GOOD.replace("tile.wait %u", ""))
    assert rules(func) == [
        "tile.copy: every copy must be waited for",
        "argument 1: every element of an output must be written",
    ]
    (out,) = run(func, [INPUT])
    np.testing.assert_array_equal(out, POISON)


def test_a_copy_reads_its_source_when_it_is_waited_for():
    func = nest("""
      %x = tile.alloc : SPM
      tile.fill %x {value = 1 : i8} : SPM
      %u = tile.copy %x to %out : SPM to DRAM
      tile.fill %x {value = 2 : i8} : SPM
      tile.wait %u
    """)
    assert rules(func) == [
        "tile.fill: the source of a copy must not be written before the copy is waited for"
    ]
    (out,) = run(func, [INPUT])
    assert set(out) == {2}


def test_the_destination_of_a_copy_must_be_left_alone():
    func = nest(GOOD.replace("tile.wait %t", "tile.fill %x {value = 1 : i8} : SPM\n  tile.wait %t"))
    assert rules(func) == [
        "tile.fill: the destination of a copy must not be used before the copy is waited for"
    ]


def test_copies_into_halves_of_a_buffer_do_not_conflict():
    func = nest("""
      %x = tile.alloc : memref<4x2xi8, "spm">
      %i = tile.reshape %in : DRAM to memref<4x2xi8, "dram">
      %o = tile.reshape %out : DRAM to memref<4x2xi8, "dram">
      %a = tile.view %x[0 : 4, 0 : 1] : memref<4x2xi8, "spm">
      %b = tile.view %x[0 : 4, 1 : 1] : memref<4x2xi8, "spm">
      %c = tile.view %i[0 : 4, 1 : 1] : memref<4x2xi8, "dram">
      %t = tile.copy %c to %a : memref<4x1xi8, "dram"> to memref<4x1xi8, "spm">
      %u = tile.copy %c to %b : memref<4x1xi8, "dram"> to memref<4x1xi8, "spm">
      tile.wait %t, %u
      %v = tile.copy %x to %o : memref<4x2xi8, "spm"> to memref<4x2xi8, "dram">
      tile.wait %v
    """)
    verify(func)
    (out,) = run(func, [INPUT])
    assert list(out) == [1, 1, 3, 3, 5, 5, 7, 7]


def test_a_new_instance_of_a_buffer_holds_nothing():
    func = nest(f"""
      tile.for %i to 2 {{
        %x = tile.alloc {{depth = 2}} : SPM
        tile.vector ins(%x : SPM) out(%x : SPM) {{kernel = {NEG}}}
        %u = tile.copy %x to %out : SPM to DRAM
        tile.wait %u
      }}
    """)
    assert rules(func) == [
        "tile.vector: everything that is read must have been written and waited for before"
    ]


def test_a_part_of_the_output_that_nobody_writes_is_found():
    func = nest("""
      %x = tile.alloc : memref<3xi8, "spm">
      tile.fill %x {value = 1 : i8} : memref<3xi8, "spm">
      %v = tile.view %out[4 : 3] : DRAM
      %u = tile.copy %x to %v : memref<3xi8, "spm"> to memref<3xi8, "dram">
      tile.wait %u
    """)
    (record,) = check(func)
    assert record.rule == "argument 1: every element of an output must be written"
    assert record.found == "5 that are not"


def test_computing_in_dram_is_refused():
    func = nest(f"tile.vector ins(%in : DRAM) out(%out : DRAM) {{kernel = {NEG}}}")
    assert rules(func) == [
        "tile.vector: inputs must lie in spm or acc",
        "tile.vector: out must lie in spm or acc",
    ]


def test_a_constant_is_not_written():
    func = nest("""
      %c = tile.constant {value = #graph.blob<i8, [2], [1, 2]>} : memref<2xi8, "dram">
      tile.fill %c {value = 1 : i8} : memref<2xi8, "dram">
    """)
    assert rules(func) == ["tile.fill: a constant must not be written"]


def test_errors_are_raised_together():
    with pytest.raises(CompileError) as problem:
        verify(nest(GOOD.replace("tile.wait", "// tile.wait")))
    assert len(problem.value.records) == 6
    assert "try a tile.wait on its token, in the same loop body" in str(problem.value)


# Host tasks

CALLEE = "func.func private @twice(tensor<8xi8>) -> tensor<8xi8>\n"
HOST = """
  tile.host ins(%in : DRAM) outs(%out : DRAM) {callee = @twice}
"""


def test_a_host_task_runs_the_callback():
    func = nest(HOST, CALLEE)
    verify(func)
    (out,) = run(func, [INPUT], host=lambda name, arrays: [arrays[0] * np.int8(2)])
    np.testing.assert_array_equal(out, INPUT * 2)


def test_a_host_task_needs_a_callback():
    with pytest.raises(CompileError, match="must be run with `host`"):
        run(nest(HOST, CALLEE), [INPUT])


def test_a_host_task_must_give_what_its_buffers_hold():
    with pytest.raises(CompileError, match=r"@twice must give i8\[8\]; found int64\[8\]"):
        run(nest(HOST, CALLEE), [INPUT], host=lambda name, arrays: [np.zeros(8, np.int64)])


def test_the_callee_must_exist_and_fit():
    assert rules(nest(HOST)) == ["tile.host: the callee must be a function of the module"]
    other = CALLEE.replace("tensor<8xi8>)", "tensor<4xi8>)")
    assert rules(nest(HOST, other)) == [
        "tile.host: the callee must take and give the tensors that the buffers hold"
    ]


# Inputs and intermediates


def test_inputs_must_fit():
    with pytest.raises(CompileError, match=r"must have the shape \[8\]; found \[7\]"):
        run(nest(GOOD), [INPUT[:7]])
    with pytest.raises(CompileError, match="must have the type i8; found float32"):
        run(nest(GOOD), [INPUT.astype(np.float32)])


def test_a_recorder_keeps_what_lies_in_dram_by_name():
    func = nest(
        GOOD.replace(
            "%u = tile.copy %x to %out",
            '%m = tile.alloc {label = "middle"} : DRAM\n'
            "%s = tile.copy %x to %m : SPM to DRAM\ntile.wait %s\n%u = tile.copy %m to %out",
        ).replace("%m to %out : SPM", "%m to %out : DRAM")
    )
    recorder = Recorder()
    run(func, [INPUT], observer=recorder)
    np.testing.assert_array_equal(recorder.arrays()["middle"], -INPUT)
