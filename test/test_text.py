"""IR as text: what prints faster than xDSL's printer prints the same."""

from io import StringIO

import pytest
from xdsl.printer import Printer

from npu_dialect import text

MODULE = """
module attributes {npu.level = "graph", note = "two\\0Alines"} {
  func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
    %0 = graph.neg %x : (tensor<4xf32>) -> tensor<4xf32> loc("a"("model.py":12:0))
    %1 = graph.neg %y : (tensor<4xf32>) -> tensor<4xf32> loc("a"("model.py":12:0))
    %2 = graph.add %0, %1 : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      loc(fused["a"("model.py":12:0), "b"])
    func.return %2 : tensor<4xf32> loc("a")
  }
}
"""


@pytest.mark.parametrize("locations", [False, True])
@pytest.mark.parametrize("generic", [False, True])
def test_the_text_is_that_of_the_printer_of_xdsl(locations: bool, generic: bool):
    module = text.parse(MODULE)
    stream = StringIO()
    printer = Printer(stream=stream, print_debuginfo=locations, print_generic_format=generic)
    printer.print_op(module)
    assert text.to_text(module, locations=locations, generic=generic) == stream.getvalue() + "\n"
