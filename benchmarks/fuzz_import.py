"""ONNX models with random defects, through the importer and the compiler.

  python benchmarks/fuzz_import.py                       10,000 cases
  python benchmarks/fuzz_import.py --cases 200 --seed 7  others, fewer
  python benchmarks/fuzz_import.py --case 1234           one again, with the error in full

A case is a small model, of one operator or from a file, with bytes or fields changed. It must be
refused with a clear error of one line, or imported; every --compile-th is compiled too, and what
the program computes compared with the model as it was imported. Nothing may end in another
exception, take long, or take more memory than --memory, which bounds the processes that run them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

CHUNK = 250
"""Cases in one process."""

CHUNK_SECONDS = 900
GOOD = ("refused", "imported", "compiled")

sys.path.insert(0, str(common.ROOT / "test"))


@dataclass(frozen=True)
class Subject:
    """What is fuzzed."""

    script: str
    description: str
    outcome: Callable[[int, bool], str]
    """What becomes of a case; one of `GOOD` where it is as it must be."""
    load: Callable[[int], ModuleOp]
    """The module of a case."""


def main(subject: Subject | None = None) -> int:
    subject = subject or Subject(__file__, __doc__ or "", onnx_outcome, onnx_module)
    args = options(subject)
    if args.case is not None:
        return again(args, subject)
    if args.chunk is not None:
        return run_chunk(args, subject)
    start = perf_counter()
    firsts = range(args.seed, args.seed + args.cases, CHUNK)
    with ThreadPoolExecutor(args.jobs) as pool:
        chunks = pool.map(lambda k: chunk(args, subject, k), firsts)
        found = dict(pair for pairs in chunks for pair in pairs)
    seconds = perf_counter() - start
    bad = {number: text for number, text in found.items() if text not in GOOD}
    for number, text in bad.items():
        print(f"case {number}: {text}")
    counts = Counter(text if text in GOOD else "bad" for text in found.values())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\n{len(found)} cases in {seconds:.0f} s: {dict(counts)}; peak memory {peak:.2f} GiB")
    rows = [{"model": f"case {n}", "target": "any", "error": e} for n, e in bad.items()]
    return common.finish(args, rows)


def onnx_outcome(number: int, compile: bool) -> str:
    from import_fuzzing import outcome

    return outcome(number, compile)


def onnx_module(number: int) -> ModuleOp:
    from model_mutations import mutant

    from npu_dialect.frontends.onnx import load

    return load(mutant(number))


def options(subject: Subject) -> argparse.Namespace:
    parser = common.parser(subject.description, models=False)
    add = parser.add_argument
    add("--cases", type=int, default=10_000)
    add("--seed", type=int, default=0, help="the first case")
    add("--compile", type=int, default=10, help="compile every so-manieth case (%(default)s)")
    add("--memory", type=float, default=2, help="GiB that a process may have (%(default)s)")
    add("--case", type=int, help="this one alone, compiled")
    add("--jobs", type=int, default=os.cpu_count())
    add("--chunk", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def chunk(args: argparse.Namespace, subject: Subject, first: int) -> list[tuple[int, str]]:
    """The outcomes of some cases; a case that ends the process is one of them."""
    last = min(first + CHUNK, args.seed + args.cases)
    found: list[tuple[int, str]] = []
    while first < last:
        done, end = process(args, subject, first, last)
        found += done
        first += len(done)
        if first < last:
            found.append((first, end))
            first += 1
    return found


def process(
    args: argparse.Namespace, subject: Subject, first: int, last: int
) -> tuple[list[tuple[int, str]], str]:
    """What a process finds for cases from `first` on, and how it ended."""
    command = [sys.executable, subject.script, "--chunk", str(first), "--cases", str(last - first),
               "--compile", str(args.compile), "--memory", str(args.memory)]  # fmt: skip
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=CHUNK_SECONDS)
        out, end = run.stdout, f"the process ended with {run.returncode}: {run.stderr[-200:]}"
    except subprocess.TimeoutExpired as expired:
        out, end = (expired.stdout or b"").decode(), "a hang"
    return list(outcomes(out)), end


def outcomes(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a process."""
    for line in text.splitlines():
        number, _, what = line.partition(" ")
        if number.isdigit() and what:
            yield int(number), what


def run_chunk(args: argparse.Namespace, subject: Subject) -> int:
    """The process of some cases: a line for each."""
    limit = int(args.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for number in range(args.chunk, args.chunk + args.cases):
        print(number, subject.outcome(number, number % args.compile == 0), flush=True)
    return 0


def again(args: argparse.Namespace, subject: Subject) -> int:
    """Runs one case with its error in full."""
    import npu_dialect as npu

    module = subject.load(args.case)
    print(module)
    print(npu.compile(module, "mobile4k"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
