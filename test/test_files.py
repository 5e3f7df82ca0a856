"""Files are written whole or not at all, and a failure is one clear line."""

import os
from pathlib import Path

import numpy as np
import pytest

from npu_dialect import files
from npu_dialect.diagnostics import CompileError


def test_a_file_is_written(tmp_path: Path):
    files.write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_line():
    with pytest.raises(CompileError, match="NPU0002.*found no space left on device"):
        files.write_text("/dev/full", "text")


def test_a_missing_folder_is_one_line(tmp_path: Path):
    with pytest.raises(CompileError, match="NPU0002.*no such file or directory"):
        files.write_text(tmp_path / "missing" / "a.txt", "text")


def test_a_folder_in_the_way_is_one_line(tmp_path: Path):
    with pytest.raises(CompileError, match="NPU0002.*a folder of that name"):
        files.write_text(tmp_path, "text")


def test_a_device_is_written_not_replaced():
    files.write_text("/dev/null", "text")
    assert not Path("/dev/null").is_file()


def test_a_link_keeps_pointing_to_the_file(tmp_path: Path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path: Path):
    (tmp_path / "plain").touch()
    files.write_text(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "new").chmod(0o600)
    files.write_text(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_a_missing_input_is_one_line(tmp_path: Path):
    with pytest.raises(CompileError, match="NPU0001.*must be a readable file; found no such file"):
        files.read_bytes(tmp_path / "missing")


def test_text_must_be_utf8(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(CompileError, match="NPU0003.*must be UTF-8 text"):
        files.read_text(tmp_path / "a")


def test_arrays_are_written(tmp_path: Path):
    files.write_npz(tmp_path / "a.npz", {"x": np.arange(3)})
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]
