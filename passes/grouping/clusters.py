"""Finding the operations that go together. Nothing in the IR is changed here.

A cluster of the accelerator has one result, and nothing else in it is used outside; so no value can
leave it and come back. Clusters of the host are cut where a value goes through the accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from xdsl.ir import Operation, SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.graph.reduction import ReduceOp
from npu_dialect.passes.graph_place import MOVES, engine_of
from npu_dialect.passes.kernels import (
    KernelError,
    KernelPlan,
    build_kernel,
    constant_of,
    is_elementwise,
)
from npu_dialect.passes.placement.rules import POOLING, VECTOR_TENSORS, fits_output_stage
from npu_dialect.target import Target

Fits = Callable[[KernelPlan], bool]

TABLES = (graph.LookupOp, graph.InterpolateOp)
"""Operations that take the one table of a kernel."""

LONGEST = 64
"""Operations of a kernel at most: kernels are short, and their fields count to 255."""


@dataclass
class Cluster:
    """Operations of one group, in their order; an anchor comes first."""

    kind: str
    ops: list[Operation]


@dataclass
class Clusters:
    """The clusters of a list of placed operations (in program order)."""

    ops: Sequence[Operation]
    target: Target
    found: list[Cluster] = field(default_factory=list[Cluster])
    taken: set[Operation] = field(default_factory=set[Operation])
    index: dict[Operation, int] = field(default_factory=dict[Operation, int])

    def find(self) -> list[Cluster]:
        """All clusters; operations in none of them are constants and views."""
        self.index = {op: i for i, op in enumerate(self.ops)}
        self._arrays()
        self._reductions()
        self._scatters()
        self._cones()
        self._moves()
        self.found += host_clusters(self.ops)
        return self.found

    def _add(self, kind: str, ops: Sequence[Operation]) -> None:
        self.found.append(Cluster(kind, list(ops)))
        self.taken.update(ops)

    def _arrays(self) -> None:
        """Later anchors first: where two meet in an addition, the other result is there already."""
        for op in reversed(self.ops):
            if engine_of(op) == "mxu" and not is_elementwise(op):
                self._add("array", self._chain(op, residual=True, fits=self._fits_output_stage))

    def _fits_output_stage(self, plan: KernelPlan) -> bool:
        return fits_output_stage(plan, self.target)

    def _reductions(self) -> None:
        for op in self.ops:
            if engine_of(op) == "vpu" and (is_reduction(op) or type(op) in POOLING):
                only = self._chain(op, residual=False, fits=lambda plan: len(plan.tensors) == 1)
                self._add("vector", only)

    def _scatters(self) -> None:
        for op in self.ops:
            if engine_of(op) == "vpu" and isinstance(op, graph.ScatterOp):
                self._add("vector", [op])

    # Anchors and what follows them

    def _chain(self, anchor: Operation, residual: bool, fits: Fits) -> list[Operation]:
        """The anchor, and the elementwise operations after it as far as the kernel `fits`."""
        chain = [anchor]
        last = anchor
        while (user := self._only_user(last)) is not None:
            side = self._side_chain(user, last.results[0]) if residual else []
            longer = [*chain, *side, user]
            if len(longer) > LONGEST or not _kernel_fits(longer, user, anchor, fits):
                break
            chain, last = longer, user
        return self._shortened(chain) if user is not None else chain

    def _only_user(self, op: Operation) -> Operation | None:
        """The elementwise operation of the same shape that alone uses the result of `op`."""
        users = {use.operation for use in op.results[0].uses}
        if len(users) != 1:
            return None
        (user,) = users
        return user if self._is_free(user, shape_of(op.results[0])) else None

    def _is_free(self, op: Operation, shape: tuple[int, ...]) -> bool:
        return (
            engine_of(op) in ("vpu", "mxu")
            and is_elementwise(op)
            and op not in self.taken
            and shape_of(op.results[0]) == shape
        )

    def _side_chain(self, user: Operation, main: SSAValue) -> list[Operation]:
        """What widens the other operand of `user`, so that its narrow form is loaded."""
        side: list[Operation] = []
        shape = shape_of(main)
        for operand in user.operands:
            value = operand
            while value is not main and (op := self._widening(value, shape)) is not None:
                side.insert(0, op)
                value = op.operands[0]
        return side

    def _widening(self, value: SSAValue, shape: tuple[int, ...]) -> Operation | None:
        op = value.owner
        if not isinstance(op, Operation) or not self._is_free(op, shape):
            return None
        return op if value.has_one_use() and _widens(op) else None

    def _shortened(self, chain: list[Operation]) -> list[Operation]:
        """Without widening at the end: what comes next does that itself and reads fewer bytes."""
        if not self.target.array.residual:
            chain = _to_the_narrowest(chain)
        while len(chain) > 1 and _widens(chain[-1]):
            chain = chain[:-1]
        return chain

    # Elementwise operations

    def _cones(self) -> None:
        for op in reversed(self.ops):
            if op not in self.taken and engine_of(op) == "vpu":
                self._add("vector", self._cone(op))

    def _cone(self, root: Operation) -> list[Operation]:
        """`root`, and the operations before it that only it needs, by at most three tensors."""
        return self._whole_cone(root) or self._part_of_cone(root)

    def _whole_cone(self, root: Operation) -> list[Operation]:
        """All that only `root` needs, however many tensors lie between; [] where it is too much."""
        cone = {root}
        heap: list[tuple[int, Operation]] = []
        self._push(heap, root)
        while heap:
            op = heappop(heap)[1]
            if op not in cone and self._joins(op, root, cone):
                cone.add(op)
                self._push(heap, op)
        inputs = {v for op in cone for v in _kernel_inputs(op) if v.owner not in cone}
        tables = {_table(op) for op in cone} - {None}
        if len(cone) > LONGEST or len(inputs) > VECTOR_TENSORS or len(tables) > 1:
            return []
        return sorted(cone, key=self.index.__getitem__)

    def _part_of_cone(self, root: Operation) -> list[Operation]:
        """As much of it as three tensors allow, the nearest first."""
        cone = {root}
        inputs = dict.fromkeys(_kernel_inputs(root))
        table = _table(root)
        heap: list[tuple[int, Operation]] = []
        self._push(heap, root)
        while heap and len(cone) < LONGEST:
            op = heappop(heap)[1]
            if op in cone or not self._joins(op, root, cone):
                continue
            merged = dict.fromkeys(v for v in inputs if v is not op.results[0])
            merged.update(dict.fromkeys(_kernel_inputs(op)))
            if len(merged) > VECTOR_TENSORS or (table and _table(op) not in (None, table)):
                continue
            inputs, table = merged, table or _table(op)
            cone.add(op)
            self._push(heap, op)
        return sorted(cone, key=self.index.__getitem__)

    def _push(self, heap: list[tuple[int, Operation]], op: Operation) -> None:
        for operand in dict.fromkeys(op.operands):
            owner = operand.owner
            if isinstance(owner, Operation) and owner in self.index:
                heappush(heap, (-self.index[owner], owner))

    def _joins(self, op: Operation, root: Operation, cone: set[Operation]) -> bool:
        shape = shape_of(root.results[0])
        return self._is_free(op, shape) and all(u.operation in cone for u in op.results[0].uses)

    def _moves(self) -> None:
        for op in self.ops:
            if isinstance(op, MOVES) and engine_of(op) == "dma" and not _is_view(op):
                self._add("move", [op])


def is_reduction(op: Operation) -> bool:
    """Whether an operation is a reduction over dimensions."""
    return isinstance(op, ReduceOp)


def _is_view(op: Operation) -> bool:
    return isinstance(op, graph.ReshapeOp)


def _kernel_fits(ops: Sequence[Operation], last: Operation, anchor: Operation, fits: Fits) -> bool:
    result = last.results[0]
    try:
        plan = build_kernel(ops, result, anchor)
    except KernelError:
        return False
    return fits(plan) and all(shape_of(v) == shape_of(result) for v in plan.tensors)


def _widens(op: Operation) -> bool:
    """Whether the result has wider elements than the one tensor that it is made of."""
    tensors = [v for v in op.operands if constant_of(v) is None]
    if len(tensors) != 1 or not is_elementwise(op) or isinstance(op, TABLES):
        return False
    return dtype_of(op.results[0]).itemsize > dtype_of(tensors[0]).itemsize


def _to_the_narrowest(chain: list[Operation]) -> list[Operation]:
    """Without what widens a result on its way to a sum, and what is done with it then: whoever adds
    does that too. (An output stage that adds would need a pass of its own for it.)
    """
    kept = len(chain)
    for k in range(len(chain) - 1, 0, -1):
        if len(_kernel_inputs(chain[k])) != 1 or isinstance(chain[k], TABLES):
            break
        if _itemsize(chain[k - 1]) < _itemsize(chain[kept - 1]):
            kept = k
    return chain[:kept]


def _itemsize(op: Operation) -> int:
    return dtype_of(op.results[0]).itemsize


def _kernel_inputs(op: Operation) -> list[SSAValue]:
    return build_kernel([op], op.results[0]).tensors


def _table(op: Operation) -> SSAValue | None:
    return op.table if isinstance(op, TABLES) else None


# The host


def host_clusters(ops: Sequence[Operation]) -> list[Cluster]:
    """Connected operations of the host, and of the io engine.

    The stage of an operation counts the changes of place on the longest way to it. Operations of
    one stage and place can have nothing of another place between them.
    """
    stages: dict[Operation, int] = {}
    clusters: dict[Operation, Cluster] = {}
    for op in ops:
        stages[op] = max((_next_stage(p, op, stages) for p in _producers(op, stages)), default=0)
        if (place := _place(op)) == "npu":
            continue
        own = Cluster(place, [])
        near = [p for p in _producers(op, stages) if _place(p) == place and stages[p] == stages[op]]
        for other in dict.fromkeys(id(clusters[p]) for p in near):
            own = _joined(own, next(c for p in near if id(c := clusters[p]) == other), clusters)
        own.ops.append(op)
        clusters[op] = own
    return list({id(c): c for c in clusters.values()}.values())


def _joined(a: Cluster, b: Cluster, clusters: dict[Operation, Cluster]) -> Cluster:
    """One cluster of two; the smaller is added to the greater."""
    if len(a.ops) > len(b.ops):
        a, b = b, a
    b.ops += a.ops
    for op in a.ops:
        clusters[op] = b
    return b


def _producers(op: Operation, known: dict[Operation, int]) -> Iterator[Operation]:
    for operand in op.operands:
        owner = operand.owner
        if isinstance(owner, Operation) and owner in known:
            yield owner


def _next_stage(producer: Operation, op: Operation, stages: dict[Operation, int]) -> int:
    return stages[producer] + (_place(producer) != _place(op))


def _place(op: Operation) -> str:
    engine = engine_of(op)
    return engine if engine in ("host", "io") else "npu"
