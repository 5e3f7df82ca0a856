"""What must hold for a .tflite file with defects: refused in a line, or compiled correctly."""

from __future__ import annotations

from import_fuzzing import judged
from tflite_mutations import mutant

from npu_dialect.frontends.tflite import load


def outcome(number: int, compile: bool = False) -> str:
    """What becomes of a case; see `import_fuzzing.judged`."""
    return judged(lambda: mutant(number), load, compile)
