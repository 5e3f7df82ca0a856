"""Depthwise convolutions as calls of the routines `stacked` and `depthwise`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npu_dialect.machine import Array, Operand
from npu_dialect.npu.arrays import DepthwiseConv2DOp
from npu_dialect.npu.base import Values
from npu_dialect.runtime.compiled import depthwise, packing, stacked
from npu_dialect.runtime.compiled.emitters.contraction import (
    Geometry,
    Plan,
    arithmetic_of,
    begin,
    call_of,
    centered,
    image_of,
    reads_in_place,
)
from npu_dialect.runtime.compiled.emitters.wide import is_wide, lower_wide
from npu_dialect.runtime.compiled.emitters.windows import (
    Window,
    image_record_of,
    layout,
    output_of,
)
from npu_dialect.runtime.compiled.packing import I16, U8S8, Runs
from npu_dialect.runtime.compiled.records import Call, Data
from npu_dialect.runtime.compiled.translate import Context, lowers
from npu_dialect.runtime.compiled.weights import lower_packing_depthwise


@lowers(DepthwiseConv2DOp)
def lower_depthwise(values: Values, context: Context) -> list[Call]:
    """A depthwise convolution: like others, but for the weights."""
    if is_wide(values, context):
        return lower_wide(values, context, lower_depthwise)
    rows, columns, _ = output_of(values).dims
    filters: Operand = values["weights"]
    (kh, kw, channels), strides = filters.dims, filters.strides
    spread = replace(filters, dims=(kh, kw, 1, channels), strides=(*strides[:2], 0, strides[2]))
    window = Window(
        values["input"],
        spread,
        (rows, columns),
        values["strides"],
        values["dilations"],
        values["pads"],
    )
    known = begin(window, values, context)
    if known is not None and _stacks(window, values, known, context):
        return [call_of(window, values, context, _stacked(window, values, known, context))]
    before, plan = _by_elements(window, values, known, context)
    return [*before, call_of(window, values, context, plan)]


# --- bytes ----------------------------------------------------------------------------------------


def _stacks(window: Window, values: Values, known: Array, context: Context) -> bool:
    """Whether products of bytes can be summed by fours."""
    host = context.host
    arithmetic = arithmetic_of(window, values, known, host.dot4)
    taps = stacked.taps(*window.kernel)
    return (
        arithmetic is U8S8 and taps <= stacked.most_taps(host) and layout(window.input) != "nothing"
    )


def _stacked(window: Window, values: Values, known: Array, context: Context) -> Plan:
    (kh, kw), lanes, source = window.kernel, context.host.lanes, window.input
    pixel = packing.GROUP_BYTES * window.channels
    plane = window.extent[1] * pixel
    stacks = stacked.stacks(kh)
    offsets = [
        g * plane + x * window.dilations[1] * pixel for g in range(stacks) for x in range(kw)
    ]
    geometry = Geometry(stacks * plane, pixel, np.array(offsets, np.int64), 1, 1)
    record = image_record_of(window, values, U8S8, window.extent[1], plane)
    vertical = [window.strides[0], window.dilations[0]]
    image = ("stacked_image", source.dtype.name, kh, layout(source))
    zero = values["x_zero"] + packing.bias(source.dtype)
    key = ("stacked", known.tobytes(), known.dtype.char, known.shape, values["w_zero"], zero)
    packed = context.shared.get(key)
    if packed is None:
        weights = centered(known, values["w_zero"], U8S8)
        packed = context.shared[key] = packing.pack_stacked(weights, lanes, zero)
    return Plan(
        stacked.spec(kh, kw, bool(values["accumulate"])),
        U8S8,
        Runs(len(offsets), 1),
        geometry,
        (image, [*record, *vertical]),
        1,
        packed.padded_channels,
        Data(packed.data),
        Data(packed.start),
    )


# --- other types ----------------------------------------------------------------------------------


def _by_elements(
    window: Window, values: Values, known: Array | None, context: Context
) -> tuple[list[Call], Plan]:
    """The plan for one element of a window after the other (two for i16), and what packs weights
    that only the run knows.
    """
    (kh, kw), channels = window.kernel, window.weights.dims[3]
    arithmetic = arithmetic_of(window, values, known, dot4=False)
    lanes = context.host.lanes
    step = 2 * lanes if arithmetic is I16 else lanes
    padded = -(-channels // step) * step
    before: list[Call] = []
    if known is None:
        filters, zero = values["weights"], values["w_zero"]
        call, data = lower_packing_depthwise(filters, arithmetic, lanes, padded, zero)
        before.append(call)
    else:
        key = ("depthwise", known.tobytes(), known.dtype.char, known.shape, values["w_zero"])
        packed = context.shared.get(key)
        if packed is None:
            flat = centered(known, values["w_zero"], arithmetic).reshape(-1, channels)
            packed = context.shared[key] = packing.pack_depthwise(flat, arithmetic, lanes)
        data = Data(packed)
    in_place, runs = reads_in_place(window, arithmetic, values), Runs(kh * kw, 1)
    geometry = Geometry.of(window, arithmetic, runs, in_place=in_place)
    plan = Plan(
        depthwise.spec(arithmetic.name, bool(values["accumulate"])),
        arithmetic,
        runs,
        geometry,
        None if in_place else image_of(window, values, arithmetic, geometry),
        1,
        padded,
        data,
        Data(context.shared.setdefault(("zeros", padded), np.zeros(padded, np.int32))),
    )
    return before, plan
