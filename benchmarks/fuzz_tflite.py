"""TFLite models with random defects, through the importer and the compiler.

  python benchmarks/fuzz_tflite.py                       10,000 cases
  python benchmarks/fuzz_tflite.py --cases 200 --seed 7  others, fewer
  python benchmarks/fuzz_tflite.py --case 1234           one again, with the error in full

A case is a small model (one operator, subgraphs, variables, sparse constants, a custom operator)
or a stored file, with bytes, offsets, lengths, or fields of the schema changed. It must be refused
with a clear error of one line, or imported; every --compile-th is compiled too, and what the
program computes compared with the model as it was imported. Nothing may end in another exception,
take long, or take more memory than --memory, which bounds the processes that run them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import fuzz_import

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp


def outcome(number: int, compile: bool) -> str:
    from tflite_fuzzing import outcome as found

    return found(number, compile)


def module(number: int) -> ModuleOp:
    from tflite_mutations import mutant

    from npu_dialect.frontends.tflite import load

    return load(mutant(number))


if __name__ == "__main__":
    sys.exit(fuzz_import.main(fuzz_import.Subject(__file__, __doc__ or "", outcome, module)))
