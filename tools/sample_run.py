"""npu-run over a data set: samples per second, outputs of all samples, top-1 accuracy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from npu_dialect import files
from npu_dialect.ports import Array, Port
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.stream import default_jobs, map_inputs
from npu_dialect.tools.datasets import DataSet
from npu_dialect.tools.results import Labels, collected

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Summary:
    """What became of a data set."""

    samples: int
    seconds: float
    """From the first sample to the last output, with the preparation of the sessions."""
    jobs: int
    outputs: tuple[Port, ...]
    labels: Labels | None
    run: Run
    """The last one; what it says of time and energy holds for each."""

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds

    @property
    def shapes(self) -> dict[str, tuple[str, list[int]]]:
        """Type and shape of each output, all samples together."""
        return {p.name: (str(p.dtype.numpy), [self.samples, *p.shape]) for p in self.outputs}

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without the run."""
        outputs = {n: {"dtype": d, "shape": s} for n, (d, s) in self.shapes.items()}
        figures: dict[str, Any] = {
            "samples": self.samples,
            "wall_seconds": self.seconds,
            "samples_per_second": self.rate,
            "jobs": self.jobs,
        }
        top1 = {"top1": self.labels.accuracy} if self.labels else {}
        return figures | top1 | {"outputs": outputs}


def run_samples(
    args: argparse.Namespace,
    program: Program,
    samples: DataSet,
    state: Mapping[str, Array],
    progress: Progress,
) -> Summary:
    """Run a program on all samples, from contents of states (its own where `state` has none).
    `--output` is written in the end, whole or not at all."""
    labels = Labels(args.labels, len(samples), program.outputs) if args.labels else None
    with ExitStack() as stack:
        output = stack.enter_context(files.replacing(args.output)) if args.output else None
        results = stack.enter_context(collected(program.outputs)) if output else None
        start, done = perf_counter(), 0
        progress("samples", 0, len(samples))
        run = None
        for run in _runs(args, program, samples, state):
            done += 1
            for each in (results, labels):
                if each is not None:
                    each.add(run.outputs)
            progress("samples", done, len(samples))
        seconds = perf_counter() - start
        if results and output:
            results.write(output)
    assert run is not None, "a data set has a sample at least"
    jobs = args.jobs or (1 if args.sequence else default_jobs(args.threads))
    return Summary(done, seconds, min(jobs, done), program.outputs, labels, run)


def _runs(
    args: argparse.Namespace, program: Program, samples: DataSet, state: Mapping[str, Array]
) -> Iterator[Run]:
    return map_inputs(
        program,
        samples,
        jobs=args.jobs,
        tier=args.tier,
        strict=args.strict,
        threads=args.threads,
        seed=args.seed,
        sequence=args.sequence,
        state=state,
    )
