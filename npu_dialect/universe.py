"""The registry: every dialect, pass and pipeline of the compiler by name, imported only when used.

To add a pass called `graph-do-it`, write `GraphDoItPass` in `passes/graph_do_it.py` and list the
name in `PASSES`, and in `PIPELINES` if it runs by default, with the reason for its position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdsl.context import Context
    from xdsl.ir import Dialect
    from xdsl.passes import ModulePass
    from xdsl.universe import Universe


@dataclass(frozen=True)
class Step:
    """A pass of a pipeline, in `-p` syntax (options included), and why it stands where it does."""

    spec: str
    reason: str


DIALECTS = {
    "graph": "npu_dialect.graph:Graph",
    "quant": "npu_dialect.graph.quant:Quant",
    "tile": "npu_dialect.tile:Tile",
    "npu": "npu_dialect.npu:Npu",
}
"""Where the dialect object of each name is."""

PASSES = (
    "graph-assign-precision",
    "graph-bound",
    "graph-calibrate",
    "graph-canonicalize",
    "graph-channels-last",
    "graph-correct-bias",
    "graph-decompose",
    "graph-equalize",
    "graph-fixed-point",
    "graph-fold-constants",
    "graph-fold-qdq",
    "graph-fuse-batch-norm",
    "graph-group",
    "graph-half-products",
    "graph-integer-states",
    "graph-map",
    "graph-narrow-sums",
    "graph-order",
    "graph-pack-weights",
    "graph-place",
    "graph-prune",
    "graph-quantize",
    "graph-round-weights",
    "graph-scatter-rows",
    "graph-skip-zeros",
    "graph-smooth",
    "graph-to-tile",
    "graph-unroll",
    "graph-views",
    "npu-bind",
    "npu-pack",
    "npu-roll",
    "npu-sync",
    "npu-verify",
    "tile-allocate",
    "tile-pack-constants",
    "tile-to-npu",
    "verify-ssa-order",
)
"""The names of the passes; the module and the class follow from the name."""

LEVELS = ("graph", "tile", "npu")
"""The levels in the order of lowering; the pipeline of each ends at that level."""

PIPELINES: dict[str, tuple[Step, ...]] = {
    "graph": (
        Step("graph-canonicalize", "fewer operations for all that follows"),
        Step("graph-fold-constants", "shapes and weights become known"),
        Step("graph-channels-last", "brings what is around a convolution next to it"),
        Step("graph-fuse-batch-norm", "needs the convolution and what scales it side by side"),
        Step("graph-fold-qdq", "needs dequantize, operation and quantize side by side"),
        Step("graph-fixed-point", "what has no exact integer form; before data moves in between"),
        Step("graph-channels-last", "integers let more transpositions pass, and flattening too"),
        Step("graph-canonicalize", "what the rewrites left"),
        Step("graph-fold-constants", "requantized constants"),
        Step(
            "graph-scatter-rows", "needs transpositions merged; what is left of them cancels below"
        ),
        Step("graph-integer-states", "needs what quantizes states in its last place"),
        Step("graph-decompose", "after all that looks for whole operations"),
        Step("graph-canonicalize", "reductions of one element and the like"),
        Step("graph-narrow-sums", "accumulators of 32 bits take less room; all arrays have them"),
        Step("graph-half-products", "after what may move between a cast and a product"),
        Step("graph-place", "after every rewrite that may change what an engine can do"),
        Step("graph-pack-weights", "concerns weights of the array alone"),
        Step("graph-skip-zeros", "concerns weights of the array alone"),
        Step("graph-group", "joins neighbours on one engine, so it needs their placement"),
        Step("graph-bound", "counts groups, and knows nothing of what comes after it"),
    ),
    "tile": (
        Step("graph-views", "what is addressed rather than moved takes no memory"),
        Step("graph-order", "needs to know what shares memory; cascades are of neighbours"),
        Step("graph-map", "cuts whole groups"),
        Step("graph-to-tile", "emits the nests that the mapping describes"),
        Step("tile-pack-constants", "packed constants take less dram, so before it is shared out"),
        Step("tile-allocate", "needs every buffer of the function"),
    ),
    "npu": (
        Step("tile-to-npu", "turns executed tile operations into instructions, and schedules them"),
        Step("npu-pack", "needs the order, and what shares bytes decides what waits"),
        Step("npu-bind", "needs the addresses; copies that it drops wait for nothing"),
        Step("npu-sync", "waits follow from the order that the schedule chose"),
        Step("npu-roll", "finds what repeats, waits included"),
        Step("npu-verify", "proves the program as it will be encoded"),
    ),
}
"""The default pipelines: `graph` improves a model, `tile` and `npu` lower to that level."""


def pass_path(name: str) -> str:
    """Module and class of a pass, from its name.

    `graph-to-tile` is `npu_dialect.passes.graph_to_tile:GraphToTilePass`.
    """
    words = name.split("-")
    return f"npu_dialect.passes.{'_'.join(words)}:{''.join(map(str.capitalize, words))}Pass"


def pass_class(name: str) -> type[ModulePass]:
    """The class of one of our passes or of a stock pass of xDSL.

    Raises KeyError for a name that is neither.
    """
    if name in PASSES:
        return _load(pass_path(name))
    from xdsl.transforms import get_all_passes

    return get_all_passes()[name]()


def pass_names() -> list[str]:
    """The names that a pipeline may use: our passes, then the stock passes of xDSL."""
    from xdsl.transforms import get_all_passes

    return [*PASSES, *sorted(get_all_passes())]


def pipeline(level: str) -> str:
    """The default pipeline of a level as a string in `npu-opt -p` syntax."""
    return ",".join(step.spec for step in PIPELINES[level])


def NpuContext() -> Context:  # noqa: N802 - reads as the class that it builds
    """A context with our dialects and those of xDSL, each loaded at first use."""
    from xdsl.context import Context
    from xdsl.dialects import get_all_dialects

    context = Context()
    for name, load in get_all_dialects().items():
        context.register_dialect(name, load)
    for name, path in DIALECTS.items():
        context.register_dialect(name, _loader(path))
    context.load_registered_dialect("builtin")
    return context


def _load(path: str) -> Any:
    """The object at `package.module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _loader(path: str) -> Callable[[], Any]:
    return lambda: _load(path)


def _xdsl_universe() -> Universe:
    from xdsl.universe import Universe

    dialects: dict[str, Callable[[], Dialect]] = {n: _loader(p) for n, p in DIALECTS.items()}
    passes: dict[str, Callable[[], type[ModulePass]]] = {n: _loader(pass_path(n)) for n in PASSES}
    return Universe(all_dialects=dialects, all_passes=passes)


def __getattr__(name: str) -> Any:
    """`XDSL_UNIVERSE`, the entry point of stock xDSL tools, is built when such a tool asks."""
    if name == "XDSL_UNIVERSE":
        return _xdsl_universe()
    raise AttributeError(name)
