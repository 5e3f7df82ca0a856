"""The end of a detection network: boxes from their encodings, and the best that do not overlap.

What TFLite's custom operator TFLite_Detection_PostProcess computes (its definition is
tensorflow/lite/kernels/detection_postprocess.cc), in numpy, for the host. An encoding (y, x, h, w)
is relative to an anchor:

    center = y / y_scale * anchor.h + anchor.y      half = exp(h / h_scale) / 2 * anchor.h

Where results leave no room for doubt, they have the bits of the reference kernel. Equal scores are
taken in the order of boxes and classes; the kernel sorts classes, and with `use_regular_nms` the
best of all classes, in an order that its C++ library chooses. Detections after the last are zeros,
which the kernel does not write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """The options of the operator."""

    most: int
    """Detections."""
    classes_each: int
    """Classes that a detection is given for, if classes are not looked at one by one."""
    most_per_class: int
    """Detections of a class, if they are."""
    by_class: bool
    """Whether overlaps are judged class by class."""
    score: float
    """Boxes of a lower score are left out."""
    overlap: float
    """Boxes that overlap with a better one by more than this share are left out."""
    classes: int
    scales: tuple[float, float, float, float]
    """Of y, x, h and w."""

    @staticmethod
    def of(options: Mapping[str, Any]) -> Settings:
        """The settings in a map. Raises ValueError for what is missing or cannot be."""
        needed = (
            "max_detections", "max_classes_per_detection", "nms_score_threshold",
            "nms_iou_threshold", "num_classes", "y_scale", "x_scale", "h_scale", "w_scale",
        )  # fmt: skip
        missing = [name for name in needed if name not in options]
        if missing:
            raise ValueError(f"the options lack {', '.join(missing)}")
        found = Settings(
            int(options["max_detections"]),
            int(options["max_classes_per_detection"]),
            int(options.get("detections_per_class") or 100),
            bool(options.get("use_regular_nms", False)),
            float(np.float32(options["nms_score_threshold"])),
            float(np.float32(options["nms_iou_threshold"])),
            int(options["num_classes"]),
            cast("Any", tuple(float(np.float32(options[f"{k}_scale"])) for k in "yxhw")),
        )
        counts = (found.most, found.classes_each, found.most_per_class, found.classes)
        if min(counts) < 1 or max(counts) > 1 << 20 or not 0 < found.overlap <= 1:
            raise ValueError(f"options out of range: {found}")
        return found

    @property
    def rows(self) -> int:
        """How many detections there is room for."""
        return self.most * self.classes_each


def shapes(options: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of boxes, classes, scores and the number of detections. Raises ValueError."""
    rows = Settings.of(options).rows
    return [(1, rows, 4), (1, rows), (1, rows), (1,)]


def post_process(call: Any, encodings: Array, scores: Array, anchors: Array) -> list[Array]:
    """Boxes [1, N, 4] as (ymin, xmin, ymax, xmax), classes [1, N], scores [1, N] and how many.

    Encodings [1, boxes, >= 4], scores [1, boxes, classes] with or without a background class
    before, anchors [boxes, 4]; quantized or floats. `call` is a `graph.custom.Call`.
    """
    settings = Settings.of(call.options)
    real = [
        port.real(array)
        for port, array in zip(call.inputs, (encodings, scores, anchors), strict=True)
    ]
    boxes = decoded(real[0][0], real[2], settings.scales)
    each = real[1][0][:, real[1].shape[2] - settings.classes :]
    detect = _by_class if settings.by_class else _by_box
    rows, classes, best, count = detect(boxes, each, settings)
    return [_filled(a, settings.rows) for a in (boxes[rows], classes, best)] + [
        np.array([count], np.float32)
    ]


def decoded(encodings: Array, anchors: Array, scales: tuple[float, ...]) -> Array:
    """The corners [boxes, 4] of encodings; computed in float64, rounded where the kernel does."""
    y, x, h, w = (encodings[:, k].astype(np.float64) / scales[k] for k in range(4))
    above, left, high, wide = (anchors[:, k].astype(np.float64) for k in range(4))
    centers = [(y * high + above).astype(np.float32), (x * wide + left).astype(np.float32)]
    halves = [
        (0.5 * np.exp(h) * high).astype(np.float32),
        (0.5 * np.exp(w) * wide).astype(np.float32),
    ]
    low = [c - half for c, half in zip(centers, halves, strict=True)]
    return np.stack([*low, *(c + half for c, half in zip(centers, halves, strict=True))], axis=1)


def _by_box(boxes: Array, scores: Array, settings: Settings) -> tuple[Array, Array, Array, int]:
    """Each box with its best classes; overlaps are judged by the best of these."""
    count = min(settings.classes_each, settings.classes)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    kept = suppressed(boxes, scores.max(axis=1), settings.most, settings)
    places = np.repeat(kept, settings.classes_each)
    classes = np.zeros((len(kept), settings.classes_each), np.float32)
    best = np.zeros((len(kept), settings.classes_each), np.float32)
    classes[:, :count] = order[kept]
    best[:, :count] = np.take_along_axis(scores[kept], order[kept], axis=1)
    return places, classes.reshape(-1), best.reshape(-1), len(kept)


def _by_class(boxes: Array, scores: Array, settings: Settings) -> tuple[Array, Array, Array, int]:
    """The boxes that each class keeps; of all of them the best."""
    rows: list[Array] = []
    for k in range(settings.classes):
        rows.append(suppressed(boxes, scores[:, k], settings.most_per_class, settings))
    classes = np.repeat(np.arange(settings.classes), [len(each) for each in rows])
    places = np.concatenate(rows)
    found = scores[places, classes]
    order = np.argsort(-found, kind="stable")[: settings.most]
    best = classes[order].astype(np.float32)
    return places[order], best, found[order], len(order)


def suppressed(boxes: Array, scores: Array, most: int, settings: Settings) -> Array:
    """The boxes that are good enough and overlap with no better one, best first."""
    good = np.flatnonzero(scores >= np.float32(settings.score))
    order = good[np.argsort(-scores[good], kind="stable")]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        kept.append(int(order[0]))
        rest = order[1:]
        order = rest[~(overlaps(boxes[order[0]], boxes[rest]) > np.float32(settings.overlap))]
    return np.array(kept, np.int64)


def overlaps(box: Array, others: Array) -> Array:
    """The area that a box shares with each of others, over what both cover; in float32."""
    size = np.maximum(
        np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), np.float32(0)
    )
    common = size[:, 0] * size[:, 1]
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = common / (area + areas - common)
    return np.where((area <= 0) | (areas <= 0), np.float32(0), found)


def _filled(array: Array, rows: int) -> Array:
    """[1, rows, ...], with zeros after what there is."""
    found = np.zeros((1, rows, *array.shape[1:]), np.float32)
    found[0, : len(array)] = array[:rows]
    return found
