"""A large network on a small scratchpad: it fits, or compilation says why not.

  python benchmarks/capacity.py                    513 x 513 pixels in 384, 256, 128, ... KiB
  python benchmarks/capacity.py --size 129 --kib 384 --kib 8
  python benchmarks/capacity.py --tflite --kib 384    beside Arm Vela, on the same .tflite file

The network is DeepLabv3 on MobileNetV2 (output stride 16, image pooling, bilinear resizing to all
pixels, argmax; random weights), quantized by onnxruntime, on the machine of Ethos-U65-512 with its
512 KiB cut down. Its largest tensor takes 6.3 MB in int8. With --tflite it is a file of TFLite's
own operators (deeplab_tflite.py), which Vela compiles too, for a cache of as many KiB in SRAM.

Columns: KiB that the scratchpad has and KiB that the program takes of it, cycles, over the bound,
bytes of dram, those over the compulsory ones, instructions, seconds of processor time to compile;
whether npu-verify proves the program. Where there is none, the error's first line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import common
import zoo

TARGET = "ethos_u65_512"
KIB = (384, 256, 128, 64, 32, 16, 8)
STAGES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 2, 1),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 1, 2),
    (6, 320, 1, 1, 2),
)
"""MobileNetV2 as in DeepLabv3 (Sandler et al., 2018, 6.2): expansion, channels, blocks, stride and
dilation.
"""
CLASSES = 21
COLUMNS = (
    "KiB", "taken", "cycles", "/ bound", "dram MB", "dram", "instr", "CPU s", "verify", "error",
)  # fmt: skip


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    parser.add_argument("--size", type=int, default=513, help="pixels in a row and a column")
    parser.add_argument("--kib", type=int, action="append", metavar="N", help="may be repeated")
    parser.add_argument("--tflite", action="store_true", help="a .tflite file, and Vela's figures")
    args = parser.parse_args()
    path = (tflite if args.tflite else built)(zoo.default_cache(), args.size)
    rows = [measured(path, kib) for kib in args.kib or KIB]
    if args.tflite:
        rows += [of_vela(path, kib) for kib in args.kib or KIB]
    common.show(f"deeplabv3 of {args.size} x {args.size} on {TARGET}", COLUMNS, map(cells, rows))
    return common.finish(args, rows)


def cells(row: common.Row) -> tuple[object, ...]:
    """A line."""
    if "error" in row:
        return (row["kib"], *("-" for _ in COLUMNS[2:]), row["error"][:120])
    if "bound" not in row:
        taken, cycles, dram = f"{row['peak'] / 1024:.0f}", f"{row['cycles']:,}", row["dram"] / 1e6
        unknown = ("-", "-", common.seconds(row["seconds"]), "-", "Vela")
        return (row["kib"], taken, cycles, "-", f"{dram:.1f}", *unknown)
    return (
        row["kib"],
        f"{row['peak'] / 1024:.0f}",
        f"{row['cycles']:,}",
        f"{row['cycles'] / row['bound']:.2f}",
        f"{row['dram'] / 1e6:.1f}",
        f"{row['dram'] / row['compulsory']:.2f}",
        f"{row['instructions']:,}",
        common.seconds(row["seconds"]),
        common.verdict(row["verified"]),
        "",
    )


def measured(path: Path, kib: int) -> common.Row:
    """The figures of the program in a scratchpad of so many KiB, or why there is none."""
    from mapping import verifies
    from xdsl.dialects.builtin import IntegerAttr, i64

    from npu_dialect import api
    from npu_dialect.diagnostics import CompileError
    from npu_dialect.passes.targets import SCRATCHPAD

    print(f"{kib} KiB ...", file=sys.stderr, flush=True)
    module = api.load(path)
    api.set_target(module, TARGET)
    module.attributes[SCRATCHPAD] = IntegerAttr(kib * 1024, i64)
    start = process_time()
    try:
        program = api.build(module, options=api.Options(reproducer=None))
    except CompileError as problem:
        return {"kib": kib, "error": str(problem).splitlines()[0]}
    seconds = process_time() - start
    profile = program.profile
    bound = profile.lower_bound
    assert bound is not None and profile.peak_spm <= kib * 1024
    return {
        "kib": kib,
        "peak": profile.peak_spm,
        "cycles": profile.cycles,
        "bound": bound.cycles,
        "dram": profile.dram_read + profile.dram_written,
        "compulsory": bound.dram_bytes,
        "instructions": len(program.executed),
        "seconds": seconds,
        "verified": verifies(program),
    }


def of_vela(path: Path, kib: int) -> common.Row:
    """Vela's figures, by its own estimate, for a cache of so many KiB."""
    from tempfile import TemporaryDirectory

    import vela_runs

    machine = next(m for m in vela_runs.MACHINES if m.target == TARGET)
    with TemporaryDirectory() as folder:
        options = ["--arena-cache-size", str(kib * 1024)]
        try:
            found = vela_runs.run(path, machine, Path(folder), options)
        except RuntimeError as problem:
            return {"kib": kib, "error": str(problem)}
    return {
        "kib": kib,
        "peak": found.number("sram_memory_used") * 1024,
        "cycles": int(found.number("cycles_total")),
        "dram": found.number("dram_total_bytes"),
        "seconds": found.cpu_seconds,
    }


# --- the network ----------------------------------------------------------------------------------


def built(cache: Path, size: int) -> Path:
    """The quantized network of this size, kept in the cache."""
    import torch

    folder = zoo._place(cache, __file__)
    source, path = folder / f"deeplabv3_{size}.onnx", folder / f"deeplabv3_{size}_int8.onnx"
    if path.exists():
        return path
    torch.manual_seed(zoo.SEED)
    with zoo._whole(source) as part:
        zoo.export(deeplab(size).eval(), part, (1, 3, size, size), "image", "classes")
    with zoo._whole(path) as part:
        zoo.quantize(source, part)
    return path


def tflite(cache: Path, size: int) -> Path:
    """The same network as a .tflite file, kept in the cache."""
    import deeplab_tflite

    path = zoo._place(cache, deeplab_tflite.__file__) / f"deeplabv3_{size}.tflite"
    if not path.exists():
        with zoo._whole(path) as part:
            part.write_bytes(deeplab_tflite.deeplab(size, STAGES, CLASSES))
    return path


def deeplab(size: int) -> Any:
    """DeepLabv3 on MobileNetV2 for square images."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*_body())
            self.near, self.far = _conv(320, 256, 1), _conv(320, 256, 1)
            self.mix, self.last = _conv(512, 256, 1), nn.Conv2d(256, CLASSES, 1)
            zoo._randomize(self)

        def forward(self, x: Any) -> Any:
            x = self.body(x)
            pooled = self.far(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
            scores = self.last(self.mix(torch.cat([pooled, self.near(x)], 1)))
            whole = nn.functional.interpolate(scores, (size, size), mode="bilinear")
            return whole.argmax(1)

    return Net()


def _body() -> Iterator[Any]:
    yield _conv(3, 32, 3, 2)
    channels = 32
    for expansion, out, blocks, stride, dilation in STAGES:
        for block in range(blocks):
            yield _residual(channels, out, expansion, 1 if block else stride, dilation)
            channels = out


def _residual(channels: int, out: int, expansion: int, stride: int, dilation: int) -> Any:
    from torch import nn

    hidden = channels * expansion
    parts = [_conv(channels, hidden, 1)] if expansion > 1 else []
    parts.append(_conv(hidden, hidden, 3, stride, hidden, dilation))
    parts.append(_conv(hidden, out, 1, activation=False))
    body = nn.Sequential(*parts)
    return zoo._sum(body, nn.Identity()) if stride == 1 and channels == out else body


def _conv(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    activation: bool = True,
) -> Any:
    from torch import nn

    pad = kernel // 2 * dilation
    conv = nn.Conv2d(channels, out, kernel, stride, pad, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), *([nn.ReLU6()] if activation else []))


if __name__ == "__main__":
    sys.exit(main())
