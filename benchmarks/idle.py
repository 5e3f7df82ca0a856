"""Why the busiest engine of each program idles.

  python benchmarks/idle.py resnet18 --target edge512

Models and targets are those of mapping.py. Columns are shares of the busiest engine's work, by
cause (passes/idleness.py): `chain` is work that it needs, `store` results that are on their way,
`bytes` work that must be done before the same bytes are used again, `end` what comes after its last
instruction.
"""

from __future__ import annotations

import argparse
import sys

import common
import mapping
import zoo

from npu_dialect import api
from npu_dialect.passes.idleness import Idleness, idleness
from npu_dialect.runtime.program import Program

HEAD = ("model", "target", "busiest", "/busiest", "causes")


def main() -> int:
    args = _parser().parse_args()
    rows = [row(args, e, t) for e in mapping.entries(args) for t in args.target or e.targets]
    common.show("idle time over the work of the busiest engine", HEAD, [cells(r) for r in rows])
    return common.finish(args, rows)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(__doc__ or "")
    parser.add_argument(
        "--target", action="append", metavar="NAME", help="on this target only (may be repeated)"
    )
    return parser


def row(args: argparse.Namespace, entry: mapping.Entry, target: str) -> common.Row:
    path = entry.make(args.cache)
    built = api.compile(path, target, shapes=zoo.shapes(path), options=api.Options(reproducer=None))
    found = of_program(Program.from_bytes(built.to_bytes()))
    causes = {" ".join(cause): cycles / found.busy for cause, cycles in found.causes.most_common()}
    return {
        "model": entry.name,
        "target": target,
        "busiest": found.engine,
        "over_busiest": found.makespan / found.busy,
        "causes": causes,
    }


def of_program(program: Program) -> Idleness:
    instructions = [instruction for _, instruction in program.executed]
    return idleness(instructions, program.profile.target, list(program.kernels))


def cells(found: common.Row) -> tuple[str, ...]:
    causes = ", ".join(f"{c} {share:.1%}" for c, share in found["causes"].items() if share >= 0.001)
    over = f"{found['over_busiest']:.3f}"
    return (found["model"], found["target"], found["busiest"], over, causes)


if __name__ == "__main__":
    sys.exit(main())
