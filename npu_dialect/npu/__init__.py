"""The npu dialect: the instruction set. One op class per machine instruction; the class is the row
of the manual.
"""

from xdsl.ir import Dialect

from npu_dialect.kernel import KernelAttr
from npu_dialect.npu.attributes import ATTRIBUTES
from npu_dialect.npu.encoding import INSTRUCTIONS
from npu_dialect.npu.structure import ProgramOp, RepeatOp

Npu = Dialect("npu", [*INSTRUCTIONS, RepeatOp, ProgramOp], [*ATTRIBUTES, KernelAttr])
