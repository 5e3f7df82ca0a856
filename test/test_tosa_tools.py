"""TOSA on the command lines: npu-compile writes it, npu-compile and npu-opt read it."""

from __future__ import annotations

import tosa_cases

import npu_dialect as npu
from npu_dialect.tools import npu_compile, npu_opt

GRAPH = """\
func.func @main(%x: tensor<4x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<4xf32> {
  %0 = graph.dequantize %x : (tensor<4x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<4xf32>
  func.return %0 : tensor<4xf32>
}
"""
OPEN = """\
func.func @main(%x: tensor<4xf32>) -> tensor<4xi32> {
  %0 = graph.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  %1 = graph.cast %0 : (tensor<4xf32>) -> tensor<4xi32>
  func.return %1 : tensor<4xi32>
}
"""


def written(tmp_path, text):
    path = tmp_path / "model.mlir"
    path.write_text(text)
    return str(path)


def test_emit_tosa_prints_the_text(tmp_path, capsys):
    assert npu_compile.main([written(tmp_path, GRAPH), "--emit", "tosa"]) == 0
    found = capsys.readouterr().out
    assert "tosa.cast" in found
    assert "graph." not in found


def test_emit_tosa_writes_a_file_that_compiles(tmp_path, capsys):
    path = tmp_path / "out.mlir"
    assert npu_compile.main([written(tmp_path, GRAPH), "--emit", "tosa", "-o", str(path)]) == 0
    assert npu_compile.main([str(path), "-o", str(tmp_path / "out.npu")]) == 0
    assert "instructions for edge256" in capsys.readouterr().out


def test_what_tosa_leaves_open_needs_the_option(tmp_path, capsys):
    model = written(tmp_path, OPEN)
    assert npu_compile.main([model, "--emit", "tosa", "--target", "mobile4k"]) != 0
    assert "--tosa-open" in capsys.readouterr().err
    options = ["--emit", "tosa", "--target", "mobile4k", "--tosa-open"]
    assert npu_compile.main([model, *options]) == 0
    assert "warning[NPU1004]: tosa: exp" in capsys.readouterr().err


def test_opt_prints_tosa_as_graph(tmp_path, capsys):
    assert npu_opt.main([written(tmp_path, tosa_cases.CASES["rescale_i8_i32"])]) == 0
    assert "graph.requantize" in capsys.readouterr().out


def test_shapes_bind_open_dimensions(tmp_path, capsys):
    text = tosa_cases.simple("abs", ["?x7xi32"], "?x7xi32")
    assert npu_opt.main([written(tmp_path, text), "--shape", "a=2,7"]) == 0
    assert "tensor<2x7xi32>" in capsys.readouterr().out


def test_shapes_of_our_own_text_are_fixed(tmp_path, capsys):
    assert npu_opt.main([written(tmp_path, GRAPH), "--shape", "x=4"]) != 0
    assert "NPU0105" in capsys.readouterr().err


def test_a_loaded_module_says_where_an_operation_stands(tmp_path):
    path = written(tmp_path, tosa_cases.CASES["rescale_i8_i32"])
    module = npu.load(path)
    (op,) = (op for op in module.walk() if op.name == "graph.requantize")
    (line,) = npu.provenance.sources(op)
    assert line.startswith(f"{path}:6:")
