"""The timeline, against the Trace Event Format
(docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from npu_programs import convolve_and_pool, fill, on, program, waits

from npu_dialect.npu.structure import RepeatOp
from npu_dialect.runtime import profile, trace
from npu_dialect.runtime.run import Run

Event = dict[str, Any]

FIELDS = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": (int, float), "dur": (int, float),
          "args": dict},
    "C": {"name": str, "pid": int, "ts": (int, float), "args": dict},
    "s": {"name": str, "cat": str, "id": int, "pid": int, "tid": int, "ts": (int, float)},
    "f": {"name": str, "cat": str, "id": int, "pid": int, "tid": int, "ts": (int, float),
          "bp": str},
}  # fmt: skip
"""By phase, the fields of an event that the format asks for, and their types."""


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return json.loads(trace.to_json(profile.of(convolve_and_pool())))["traceEvents"]


def of(events: list[Event], phase: str) -> list[Event]:
    return [e for e in events if e["ph"] == phase]


def test_every_event_has_the_fields_of_its_phase(events: list[Event]):
    for event in events:
        fields = FIELDS[event["ph"]]
        assert event.keys() == {"ph", *fields}
        assert all(isinstance(event[name], kind) for name, kind in fields.items())


def test_events_come_in_the_order_of_time_after_the_names(events: list[Event]):
    timed = [e["ts"] for e in events if e["ph"] != "M"]
    assert timed == sorted(timed)
    assert [e["ph"] for e in events[: len(events) - len(timed)]] == ["M"] * (
        len(events) - len(timed)
    )


def test_every_track_has_a_name(events: list[Event]):
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in of(events, "M")
             if e["name"] == "thread_name"}  # fmt: skip
    assert names == {(0, 0): "dma", (0, 1): "mxu", (0, 2): "vpu"}
    assert {(e["pid"], e["tid"]) for e in of(events, "X")} <= names.keys()


def test_slices_of_a_track_do_not_overlap():
    # 3 cycles at 1.3 GHz are 2.3 ns: rounding must not make neighbours overlap
    found = profile.of(program([on("mxu") for _ in range(50)], target="mobile4k")).at("boost")
    slices = of(json.loads(trace.to_json(found))["traceEvents"], "X")
    ends = [round(1000 * (e["ts"] + e["dur"])) for e in slices]
    assert all(end <= round(1000 * after["ts"]) for end, (_, after) in zip(
        ends, pairwise(slices), strict=False))  # fmt: skip


def test_there_is_one_slice_for_each_instruction_with_its_layer_and_source(events: list[Event]):
    slices = of(events, "X")
    assert sorted(e["args"]["instruction"] for e in slices) == [0, 1, 2, 3, 4]
    conv = next(e for e in slices if e["args"]["op"] == "npu.conv2d")
    assert (conv["name"], conv["args"]["source"], conv["cat"]) == ("conv", "conv", "mxu")


def test_times_are_microseconds(events: list[Event]):
    # the copies take 93 + 85 cycles of 1 ns, the convolution waits another 500: 678 ns
    conv = next(e for e in of(events, "X") if e["args"]["op"] == "npu.conv2d")
    assert (conv["ts"], conv["dur"]) == (0.678, 0.178)


def test_flows_pair_up_within_slices(events: list[Event]):
    flows: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in "sf":
            flows[event["id"]].append(event)
    for one in flows.values():
        assert [e["ph"] for e in one] == ["s", "f"]
        assert one[0]["ts"] < one[1]["ts"]
        assert one[1]["bp"] == "e"
    for event in (e for one in flows.values() for e in one):
        assert any(
            (x["pid"], x["tid"]) == (event["pid"], event["tid"])
            and x["ts"] <= event["ts"] < x["ts"] + x["dur"]
            for x in of(events, "X")
        )


def test_flows_go_from_a_copy_to_the_first_use_and_from_a_result_to_its_copy(events: list[Event]):
    slices = {(e["tid"], e["ts"]): e["args"]["instruction"] for e in of(events, "X")}
    ends = {e["id"]: slices[e["tid"], e["ts"]] for e in of(events, "f")}
    found = {(e["name"], slices[e["tid"], e["ts"]], ends[e["id"]]) for e in of(events, "s")}
    # weights and image to the convolution; the pooled sums to the copy that stores them
    assert found == {("load", 0, 2), ("load", 1, 2), ("store", 3, 4)}


def counter(events: list[Event], name: str, unit: str) -> list[tuple[float, float]]:
    return [(e["ts"], e["args"][unit]) for e in of(events, "C") if e["name"] == name]


def test_a_counter_tells_what_the_scratchpad_holds(events: list[Event]):
    # weights 288 B, then the image 256 B, then sums of 8 x 8 x 8 x 4 B; all but them go when the
    # convolution is complete, and 4 x 4 x 8 x 4 B come
    found = counter(events, "scratchpad", "KiB")
    assert found[:3] == [(0, 0.28125), (0.093, 0.53125), (0.678, 2.53125)]
    assert found[3] == (0.864, 2.5)
    assert found[-1][1] == 0


def test_a_counter_tells_the_bytes_of_dram(events: list[Event]):
    # 288 B in 93 cycles of 1 ns, 256 B in 85
    found = counter(events, "dram read", "GB/s")
    assert found[:3] == [(0, 3.09677), (0.093, 3.01176), (0.178, 0)]


def test_a_counter_tells_the_power(events: list[Event]):
    # 288 B at 64 pJ from dram and 1.26 pJ into spm in 93 ns, 3.8 mW of leakage, 8 mW of clock
    milliwatts = 288 * 65.26 / 93 + 3.8 + 8
    assert counter(events, "power", "mW")[0] == (0, pytest.approx(milliwatts, rel=1e-5))


def test_a_trace_may_be_compressed(tmp_path: Path):
    run = Run.without_data(convolve_and_pool())
    run.save_trace(tmp_path / "t.json")
    run.save_trace(tmp_path / "t.json.gz")
    packed = (tmp_path / "t.json.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "t.json").read_bytes()


@pytest.mark.slow
def test_the_trace_of_fifty_thousand_instructions_is_of_a_size_that_opens():
    body = [
        fill("spm", 0, 64, address_steps=(0,)),
        on("mxu", waits=waits(dma=1), address_steps=(0, 0, 0), wait_steps=(1,)),
    ]
    found = profile.of(program([RepeatOp(25_000, body)]))
    text = trace.to_bytes(found, "t.json")
    assert len(of(json.loads(text)["traceEvents"], "X")) == 50_000
    assert len(text) < 30e6
    assert len(trace.to_bytes(found, "t.json.gz")) < 4e6
