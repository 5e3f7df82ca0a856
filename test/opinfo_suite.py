"""torch's own samples of its operators (OpInfo), through the compiler and the simulator.

Each sample in float32 becomes a module whose inputs are the sample's tensors; everything else is
part of the module. Its results are compared with those of eager torch.
"""

from __future__ import annotations

import random
import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

import npu_dialect as npu
from npu_dialect import api
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends.onnx.errors import one_line
from npu_dialect.runtime.program import Placement, Program

RTOL, ATOL = 1e-4, 1e-5
"""Of results in f32: relative to an element, and to the greatest one (at least 1). A sum in another
order, or another approximation, is as far away as this; the error of a sum goes with its terms.
"""

WORKING = ("dma", "mxu", "vpu")

UNDEFINED = ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty",
             "new_empty_strided")  # fmt: skip
"""Operators that give memory as they find it."""

ALIASES = {
    "_adaptive_avg_pool2d": ("nn.functional.adaptive_avg_pool2d",),
    "_adaptive_avg_pool3d": ("nn.functional.adaptive_avg_pool3d",),
    "_cdist_forward": ("cdist",),
    "_embedding_bag": ("nn.functional.embedding_bag",),
    "_fft_c2r": ("fft.irfft", "fft.hfft", "istft"),
    "_fft_r2c": ("fft.rfft", "fft.rfft2", "stft"),
    "_local_scalar_dense": ("item",),
    "_log_softmax": ("log_softmax",),
    "_native_batch_norm_legit_no_training": ("nn.functional.batch_norm",),
    "_pdist_forward": ("nn.functional.pdist",),
    "_softmax": ("softmax", "nn.functional.softmin"),
    "_to_copy": ("to", "float", "int", "long", "bool"),
    "alias": ("alias_copy",),
    "im2col": ("nn.functional.unfold",),
    "convolution": tuple(f"nn.functional.conv{kind}{rank}d"
                         for kind in ("", "_transpose") for rank in (1, 2, 3)),
    "copy": ("clone",),
    "index": ("__getitem__",),
    "linalg_vector_norm": ("linalg.vector_norm",),
    "max_pool2d_with_indices": ("nn.functional.max_pool2d",),
    "max_pool3d_with_indices": ("nn.functional.max_pool3d",),
    "native_dropout": ("nn.functional.dropout",),
    "reflection_pad1d": ("nn.functional.pad.reflect",),
    "reflection_pad2d": ("nn.functional.pad.reflect",),
    "reflection_pad3d": ("nn.functional.pad.reflect",),
    "replication_pad2d": ("nn.functional.pad.replicate",),
    "replication_pad3d": ("nn.functional.pad.replicate",),
    "upsample_bilinear2d": ("nn.functional.interpolate.bilinear",),
    "upsample_nearest2d": ("nn.functional.interpolate.nearest",),
}  # fmt: skip
"""ATen operators whose samples are those of operators with other names."""


@dataclass(frozen=True)
class Outcome:
    """What became of a sample."""

    op: str
    sample: int
    kind: str
    """all-NPU, host, idle (no work at run time), failed, or apart (not a test)."""
    reason: str = ""
    seconds: float = 0.0
    hosted: tuple[str, ...] = field(default=())
    """What the host does, and why."""

    @property
    def is_run(self) -> bool:
        """Whether it counts."""
        return self.kind != "apart"

    @property
    def is_passed(self) -> bool:
        return self.is_run and self.kind != "failed"


class Apart(Exception):  # noqa: N818  (no error: the sample says nothing about the compiler)
    """Why a sample is no test."""


class Slow(BaseException):
    """The time limit, which nothing that handles errors on the way must catch."""


@cache
def infos() -> dict[str, Any]:
    """Every OpInfo by its name and variant: `nn.functional.interpolate.bilinear`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return {f"{i.name}.{i.variant_test_name}".rstrip("."): i for i in op_db}


def of_operator(base: str) -> list[str]:
    """The OpInfos that test an ATen operator (`add`), none if torch has none."""
    if base in ALIASES:
        return [found for found in ALIASES[base] if found in infos()]
    names = [prefix + base for prefix in ("", "nn.functional.", "linalg.")]
    return [key for key, info in infos().items() if info.name in names]


class Call(torch.nn.Module):
    """An operator applied to a sample; the tensors of the sample are the inputs."""

    def __init__(self, info: Any, sample: Any) -> None:
        super().__init__()
        self.info = info
        tree = (sample.input, sample.args, sample.kwargs)
        leaves, self.spec = pytree.tree_flatten(tree)
        self.leaves = [None if isinstance(v, torch.Tensor) else v for v in leaves]
        self.places = [k for k, v in enumerate(leaves) if isinstance(v, torch.Tensor)]
        self.tensors: list[Any] = [leaves[k] for k in self.places]
        self.written = [False] * len(self.tensors)
        """Which tensors the operator writes to: it gets copies, for a program's inputs stay."""

    def forward(self, *inputs: Any) -> Any:
        leaves = list(self.leaves)
        for place, value, written in zip(self.places, inputs, self.written, strict=True):
            leaves[place] = value.clone() if written else value
        first, args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        found = pytree.tree_leaves(self.info.op(first, *args, **kwargs))
        tensors = [v for v in found if isinstance(v, torch.Tensor)]
        return [torch.view_as_real(v.resolve_conj()) if v.is_complex() else v for v in tensors]


def outcomes(name: str, target: str, limit: int | None, seconds: int) -> list[Outcome]:
    """What becomes of the samples of an OpInfo, at most `limit` of them, evenly chosen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            samples = list(_samples(name))
        except Exception as problem:  # whatever torch's own generators raise
            return [Outcome(name, 0, "apart", f"torch makes no samples: {_text(problem)}")]
        if not samples:
            return [Outcome(name, 0, "apart", f"torch has no samples in {dtype_of(name)}")]
        return [outcome(name, k, samples[k], target, seconds) for k in _chosen(len(samples), limit)]


def _chosen(count: int, limit: int | None) -> Sequence[int]:
    if limit is None or count <= limit:
        return range(count)
    return [k * count // limit for k in range(limit)]


def dtype_of(name: str) -> Any:
    """float32, or int64 for an operator of integers."""
    return torch.float32 if torch.float32 in infos()[name].dtypes else torch.int64


def _samples(name: str) -> Iterator[Any]:
    """The same in every run."""
    _seed(5)
    yield from infos()[name].sample_inputs("cpu", dtype_of(name), requires_grad=False)


def _seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def outcome(name: str, k: int, sample: Any, target: str, seconds: int) -> Outcome:
    """Compile, simulate and compare one sample. Nothing that it raises escapes."""
    start = perf_counter()

    def made(kind: str, reason: str = "", hosted: tuple[str, ...] = ()) -> Outcome:
        return Outcome(name, k, kind, reason, perf_counter() - start, hosted)

    try:
        with _limit(seconds):
            call = Call(infos()[name], sample)
            expected = _expected(name, call)
            program, found = _compiled(call, target)
            difference = _difference(found, expected)
    except Apart as why:
        return made("apart", str(why))
    except Slow:
        return made("failed", f"more than {seconds} s")
    except CompileError as problem:
        return made("failed", _text(problem))
    except Exception as problem:  # a defect of ours, or an export that torch cannot do
        return made("failed", f"{type(problem).__name__}: {_text(problem)}")
    hosted = tuple(sorted({_cause(p) for p in program.placements if p.engine == "host"}))
    return made("failed" if difference else _kind(program), difference, hosted)


def _expected(name: str, call: Call) -> list[Any]:
    """The results of eager torch. Raises Apart where they are nothing to compare with."""
    for tensor in call.tensors:
        if tensor.is_complex() or tensor.layout != torch.strided or tensor.is_quantized:
            raise Apart(f"an input of type {tensor.dtype}, {tensor.layout}")
    if name in UNDEFINED:
        raise Apart("memory whose values are not defined")
    first, again = _eager(call, 1), _eager(call, 2)
    if not first:
        raise Apart("gives no tensor")
    if any(v.layout != torch.strided for v in first):
        raise Apart("a sparse result")
    if all(v.numel() == 0 for v in first):
        raise Apart("a result without elements")
    if any(x.shape != y.shape or not torch.equal(x.nan_to_num(), y.nan_to_num())
           for x, y in zip(first, again, strict=True)):  # fmt: skip
        raise Apart("results are random")
    return first


def _eager(call: Call, seed: int) -> list[Any]:
    _seed(seed)
    inputs = [x.clone() for x in call.tensors]
    before = [x._version for x in inputs]
    try:
        with torch.no_grad():
            results = [v.detach().clone() for v in call(*inputs)]
    except Exception as problem:  # a sample that shows what torch refuses
        raise Apart(f"eager torch refuses it: {_text(problem)}") from None
    written = [x._version != old for x, old in zip(inputs, before, strict=True)]
    call.written = [a or b for a, b in zip(call.written, written, strict=True)]
    return results


def _compiled(call: Call, target: str) -> tuple[Program, list[Any]]:
    """The program of a call, and its results."""
    inputs = tuple(x.clone() for x in call.tensors)
    exported = torch.export.export(call, inputs, strict=False)
    if any(map(_is_random, exported.graph.nodes)):
        raise Apart("results are random")
    module = npu.load(exported, target)
    api.lower(module, options=api.Options(reproducer=None))
    program = api.assemble(module)
    arrays = [x.detach().numpy() for x in call.tensors]
    return program, list(npu.simulate(program, arrays, tier="plain").outputs.values())


def _is_random(node: Any) -> bool:
    """Whether a call throws dice; dropout does not if it keeps all or nothing."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    is_dropout = str(node.target).startswith(("aten.dropout.", "aten.native_dropout."))
    return not is_dropout or (node.args[1] not in (0, 1) and node.args[2] is not False)


def _difference(found: Sequence[Any], expected: Sequence[Any]) -> str:
    """How results differ from those of torch, "" if they do not."""
    if len(found) != len(expected):
        return f"{len(found)} results where torch has {len(expected)}"
    for x, wanted in zip(found, expected, strict=True):
        y = wanted.numpy()
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"a result {x.dtype}{list(x.shape)} where torch has {y.dtype}{list(y.shape)}"
        exact = y.dtype.kind != "f"
        close = x == y if exact else np.isclose(x, y, RTOL, ATOL * _greatest(y), equal_nan=True)
        if not np.all(close):
            first = np.unravel_index(np.argmin(close), y.shape)
            count = np.size(close) - np.count_nonzero(close)
            return f"other values ({count} of {y.size}): {x[first]} where torch has {y[first]}"
    return ""


def _greatest(y: Any) -> float:
    """The greatest magnitude of numbers, at least 1."""
    return max(1.0, float(np.max(np.abs(y[np.isfinite(y)]), initial=0)))


def _kind(program: Program) -> str:
    engines = {op.engine for _, op in program.executed}
    if "host" in engines or any(p.engine == "host" for p in program.placements):
        return "host"
    return "all-NPU" if engines.intersection(WORKING) else "idle"


def _cause(placement: Placement) -> str:
    _, _, found = placement.reason.partition("; found ")
    return f"{placement.op.removeprefix('graph.')}, {placement.rule}: {found}"


def _text(problem: Exception) -> str:
    return one_line(str(problem) or type(problem).__name__)


@contextmanager
def _limit(seconds: int) -> Generator[None]:
    """Raise Slow in this thread after some seconds."""

    def stop(*_: object) -> None:
        raise Slow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
