"""What quantization costs in accuracy, beside onnxruntime's static quantization.

  python benchmarks/quantization.py                        networks trained here, five seeds
  python benchmarks/quantization.py cnn gru --seeds 2      some of them
  python benchmarks/quantization.py --ways int8 int8/mse   schemes, and methods for ranges
  python benchmarks/quantization.py noise                  models without labels: signal to noise
  python benchmarks/quantization.py files                  trained models in ../shared/models

A way is SCHEME[/METHOD][+IMPROVEMENT,...]; without a method it is the default one. All ways, and
onnxruntime (QDQ, int8, weights by channel, MinMax), calibrate with the same samples. Ours is the
program that the simulator runs; onnxruntime runs without graph optimizations, as the operators say.

  float      top-1 of the float network, in percent; mean over the seeds
  top-1      of the quantized one
  to float   the mean paired difference over the seeds, in points, and its 95 % interval (Student)
  to ort     the same to onnxruntime's int8
  SQNR       signal to quantization noise of the outputs, in dB, mean over the seeds
  flips      predictions that differ from those of the float network, in percent
  by input   the mean paired difference of the SQNR of an input, and its 95 % interval; where few
             inputs cannot tell a difference from chance, the goal says so
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import common
import numpy as np
import numpy.typing as npt
import reference
import shaped
import trained
import zoo

Array = npt.NDArray[Any]

COLUMNS = (
    "network", "way", "float", "top-1", "to float", "to ort", "SQNR", "flips", "host", "cycles",
)  # fmt: skip
NOISE = (
    "model", "way", "SQNR", "onnxruntime", "difference", "by input", "inputs", "host", "cycles",
    "goal",
)  # fmt: skip
LESS = 0.5
"""Decibels that the outputs may have less than onnxruntime's."""
ORT = "onnxruntime int8"
LEAST_OPSET = 13
"""DequantizeLinear has an axis from here on."""
GOALS = {"int8": 0.5, "int16x8": 0.1, "int4": 1.5}
"""The greatest loss in points that a scheme may have, by the start of its name."""
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
"""The 97.5 % quantile of Student's t for so many samples."""


@dataclass(frozen=True)
class Case:
    """A float model, samples to calibrate with, and inputs to measure with."""

    name: str
    path: Path
    calibration: Sequence[Mapping[str, Array]]
    inputs: Sequence[Mapping[str, Array]]
    labels: Array | None = None


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="networks, `noise` or `files`")
    add("--ways", nargs="*", default=["int8"], metavar="WAY")
    add("--seeds", type=int, default=5, help="of training (default: 5)")
    add("--target", default="edge256")
    add("--cache", type=Path, default=zoo.default_cache(), help="where networks are kept")
    args = parser.parse_args()
    rows: list[common.Row] = []
    names = args.names or [*trained.NETWORKS]
    networks = [name for name in names if name in trained.NETWORKS]
    if networks:
        rows += accuracy(args, networks)
    if "noise" in names or set(names) & set(shaped.SHAPES):
        chosen = [c for c in shaped.cases(args.cache) if "noise" in names or c.name in names]
        rows += noise(args, "random weights", chosen)
    if "files" in names:
        rows += noise(args, "trained models", shaped.files())
    return common.finish(args, rows) or int(any(row.get("missed") for row in rows))


# --- accuracy -------------------------------------------------------------------------------------


def accuracy(args: argparse.Namespace, networks: Sequence[str]) -> list[common.Row]:
    rows: list[common.Row] = []
    for name in networks:
        found: dict[str, list[common.Row]] = {}
        for seed in range(args.seeds):
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            for row in measured(args, case_of(name, seed, args.cache)):
                found.setdefault(row["way"], []).append(row)
        rows += [summary(name, way, each, found) for way, each in found.items()]
    common.show(f"accuracy on {args.target}, {args.seeds} seeds", COLUMNS, map(cells, rows))
    for row in rows:
        if row["missed"]:
            print(f"{row['network']}, {row['way']}: {row['missed']}")
    return rows


def case_of(name: str, seed: int, cache: Path) -> Case:
    path, data = trained.trained(name, seed, cache), trained.digits(seed)
    port = zoo._ports(path)[0].name
    calibration = [{port: image[None]} for image in data.calibration]
    inputs = [{port: image[None]} for image in data.test_images]
    return Case(name, path, calibration, inputs, data.test_labels)


def measured(args: argparse.Namespace, case: Case) -> Iterator[common.Row]:
    """A row for onnxruntime and for each way."""
    assert case.labels is not None
    runs = reference.run(case.path, case.inputs, optimize=False)
    exact = np.concatenate([run[0] for run in runs])
    found: dict[str, tuple[list[list[Array]], int | str, int]] = {
        ORT: (by_onnxruntime(case), "", 0)
    }
    for way in args.ways:
        found[way] = simulated(case, way, args.target)
    for way, (outputs, hosted, cycles) in found.items():
        logits = np.concatenate([run[0] for run in outputs])
        yield {
            "way": way,
            "float": top1(exact, case.labels),
            "top1": top1(logits, case.labels),
            "sqnr": sqnr([exact], [logits]),
            "flips": 100 * float(np.mean(exact.argmax(-1) != logits.argmax(-1))),
            "host": hosted,
            "cycles": cycles,
        }


def top1(logits: Array, labels: Array) -> float:
    return 100 * float(np.mean(logits.argmax(-1) == labels))


def summary(
    name: str, way: str, each: Sequence[common.Row], found: Mapping[str, Sequence[common.Row]]
) -> common.Row:
    to_float = paired([r["top1"] - r["float"] for r in each])
    to_ort = paired([r["top1"] - o["top1"] for r, o in zip(each, found[ORT], strict=True)])
    noise_to_ort = paired([r["sqnr"] - o["sqnr"] for r, o in zip(each, found[ORT], strict=True)])
    keys = ("float", "top1", "sqnr", "flips")
    means = {key: float(np.mean([r[key] for r in each])) for key in keys}
    row: common.Row = {"network": name, "way": way, "to_float": to_float, "to_ort": to_ort}
    row |= means | {"noise_to_ort": noise_to_ort}
    row |= {"host": each[0]["host"], "cycles": each[0]["cycles"]}
    return row | {"missed": missed(way, to_float, to_ort), "each": list(each)}


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """The mean and the half of its 95 % interval."""
    count = len(differences)
    if count < 2:
        return differences[0], float("nan")
    spread = float(np.std(differences, ddof=1)) / count**0.5
    return float(np.mean(differences)), STUDENT.get(count, 1.96) * spread


def missed(way: str, to_float: tuple[float, float], to_ort: tuple[float, float]) -> str:
    """Which goal a way misses on average; empty where it misses none."""
    if way == ORT:
        return ""
    scheme = way.partition("/")[0].partition("+")[0]
    goal = next((GOALS[n] for n in sorted(GOALS, reverse=True) if scheme.startswith(n)), 0.5)
    if to_float[0] < -goal:
        return f"loses {-to_float[0]:.2f} points to float, where {goal} are allowed"
    if not scheme.startswith("int4") and to_ort[0] + max(0.0, to_ort[1]) < 0:
        return f"is worse than onnxruntime by {-to_ort[0]:.2f} points"
    return ""


def cells(row: common.Row) -> tuple[object, ...]:
    def difference(pair: tuple[float, float]) -> str:
        return f"{pair[0]:+.2f} ± {pair[1]:.2f}"

    own = row["way"] != ORT
    return (
        row["network"],
        row["way"],
        f"{row['float']:.2f}",
        f"{row['top1']:.2f}",
        difference(row["to_float"]),
        difference(row["to_ort"]) if own else "",
        f"{row['sqnr']:.1f}",
        f"{row['flips']:.2f}",
        row["host"] if own else "",
        f"{row['cycles']:,}" if own else "",
    )


# --- signal to noise ------------------------------------------------------------------------------


def noise(args: argparse.Namespace, title: str, cases: Sequence[Any]) -> list[common.Row]:
    """Rows of models without labels."""
    rows: list[common.Row] = []
    for each in cases:
        print(f"{each.name} ...", file=sys.stderr, flush=True)
        case = Case(each.name, each.path, each.calibration, each.inputs)
        exact = reference.run(case.path, case.inputs, optimize=False)
        other = by_onnxruntime(case)
        for way in args.ways:
            outputs, hosted, cycles = simulated(case, way, args.target)
            row: common.Row = {"model": case.name, "way": way, "host": hosted, "cycles": cycles}
            row |= {"sqnr": sqnr(*together(exact, outputs)), "ort": sqnr(*together(exact, other))}
            each = zip(exact, outputs, other, strict=True)
            differences = [
                sqnr(*together([e], [o])) - sqnr(*together([e], [q])) for e, o, q in each
            ]
            row |= {"paired": paired(differences), "inputs": len(differences)}
            rows.append(row | {"missed": verdict(row) == "NO"})
    shown = (
        (
            r["model"], r["way"], f"{r['sqnr']:.1f}", f"{r['ort']:.1f}",
            f"{r['sqnr'] - r['ort']:+.1f}", f"{r['paired'][0]:+.1f} ± {r['paired'][1]:.1f}",
            r["inputs"], r["host"], f"{r['cycles']:,}", verdict(r),
        )
        for r in rows
    )  # fmt: skip
    common.show(f"{title}: SQNR of the outputs in dB, {args.target}", NOISE, shown)
    return rows


def verdict(row: common.Row) -> str:
    """Whether a model has the noise of onnxruntime's, or less than 0.5 dB more."""
    if row["sqnr"] >= row["ort"] - LESS:
        return "yes"
    mean, half = row["paired"]
    return "by chance" if mean + half >= -LESS else "NO"


def together(
    exact: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]
) -> tuple[list[Array], list[Array]]:
    """All floating outputs of all runs, side by side."""
    pairs = [
        (a, b)
        for one, other in zip(exact, found, strict=True)
        for a, b in zip(one, other, strict=True)
        if a.dtype.kind == "f"
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def sqnr(exact: Sequence[Array], found: Sequence[Array]) -> float:
    """Signal to noise over all arrays, in dB."""
    signal = sum(float(np.sum(a.astype(np.float64) ** 2)) for a in exact)
    error = sum(
        float(np.sum((a.astype(np.float64) - b) ** 2)) for a, b in zip(exact, found, strict=True)
    )
    return float(10 * np.log10(signal / error)) if error else float("inf")


# --- the two that quantize ------------------------------------------------------------------------


def by_onnxruntime(case: Case) -> list[list[Array]]:
    """The outputs of onnxruntime's static quantization of a model."""
    from onnxruntime import quantization as q

    samples = iter(case.calibration)

    class Reader(q.CalibrationDataReader):
        def get_next(self) -> Any:
            return next(samples, None)

    with TemporaryDirectory() as folder, zoo._quiet():
        path = Path(folder) / "int8.onnx"
        q.quantize_static(
            str(recent(case.path, Path(folder))),
            str(path),
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QInt8,
            weight_type=q.QuantType.QInt8,
        )
        return reference.run(path, case.inputs, optimize=False)


def recent(path: Path, folder: Path) -> Path:
    """A model in an operator set that has scales by channel."""
    import onnx

    model = onnx.load(str(path))
    own = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if own >= LEAST_OPSET:
        return path
    onnx.save(onnx.version_converter.convert_version(model, LEAST_OPSET), folder / "recent.onnx")
    return folder / "recent.onnx"


Measured = tuple[list[list[Array]], int, int]
"""Outputs by input, operations on the host, cycles."""


def simulated(case: Case, way: str, target: str) -> Measured:
    """The outputs of the program that a way makes of a model."""
    import npu_dialect as npu

    program = npu.compile(
        case.path,
        target,
        shapes=zoo.shapes(case.path) if case.labels is None else None,
        quantize=wanted(way),
        calibrate=list(case.calibration),
    )
    session = npu.Session(program)
    outputs = [list(session.run(each).outputs.values()) for each in case.inputs]
    hosted = sum(row.engine == "host" for row in program.placement)
    return outputs, hosted, program.profile.cycles


def wanted(way: str) -> Any:
    """The options of a way."""
    import npu_dialect as npu

    scheme, _, improvements = way.partition("+")
    scheme, _, method = scheme.partition("/")
    options: dict[str, Any] = {"method": method} if method else {}
    if improvements:
        options["improve"] = tuple(improvements.split(","))
    return npu.Quantization(scheme, **options)


if __name__ == "__main__":
    sys.exit(main())
