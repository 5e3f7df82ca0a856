"""Errors are records with stable codes, printed as one line each."""

import json
import logging

import pytest

from npu_dialect.diagnostics import (
    Code,
    CompileError,
    Diagnostic,
    Severity,
    collect,
    error,
    manual,
    remark,
    unique,
    warn,
)


def test_a_record_prints_as_one_line():
    record = Diagnostic(
        Code.DTYPE_MISMATCH, "must be\n f32", found="i8", remedy="a cast", source="add1"
    )
    assert str(record) == "error[NPU0107]: add1: must be f32; found i8; try a cast"


def test_parts_that_are_unknown_are_left_out():
    assert str(Diagnostic(Code.CRASH, "must work")) == "error[NPU0901]: must work"


def test_the_location_stands_behind_the_source():
    record = Diagnostic(Code.CRASH, "must work", source="conv1", location="net.py:3")
    assert str(record) == "error[NPU0901]: conv1 (net.py:3): must work"


def test_an_error_raises_with_its_record():
    with pytest.raises(CompileError, match=r"^error\[NPU0304\]: spm: must fit; found 3 MiB$"):
        raise error(Code.CAPACITY, "must fit", found="3 MiB", source="spm")


def test_several_records_print_a_line_each():
    both = CompileError(Diagnostic(Code.CRASH, "one"), Diagnostic(Code.CRASH, "two"))
    assert str(both).splitlines() == ["error[NPU0901]: one", "error[NPU0901]: two"]


def test_records_have_a_json_form():
    (record,) = json.loads(error(Code.OPTION, "must be x", found=3, source="-o").to_json())
    assert record == {
        "code": "NPU0004",
        "meaning": Code.OPTION.meaning,
        "severity": "error",
        "source": "-o",
        "location": "",
        "rule": "must be x",
        "found": "3",
        "remedy": "",
    }


def test_warnings_and_remarks_are_collected():
    with collect() as records:
        remark(Code.NOT_FUSED, "relu was not fused", source="relu1")
        warn(Code.APPROXIMATION, "one step may differ")
    assert [r.severity for r in records] == [Severity.REMARK, Severity.WARNING]
    assert str(records[0]) == "remark[NPU1002]: relu1: relu was not fused"


def test_a_warning_that_nobody_collects_is_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        warn(Code.APPROXIMATION, "one step may differ")
    assert "warning[NPU1004]: one step may differ" in caplog.text


def test_unique_keeps_the_first_of_equal_records():
    a, b = Diagnostic(Code.CRASH, "a"), Diagnostic(Code.CRASH, "b")
    assert unique([a, b, a]) == [a, b]


def test_every_code_has_its_own_number_and_a_meaning():
    assert len({code.number for code in Code}) == len(Code)
    assert all(code.meaning.endswith(".") for code in Code)
    assert all(f"`{code.number}`" in manual() for code in Code)
