"""The report as a web page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from npu_programs import X, convolve_and_pool, dense, fill, program

from npu_dialect.dtypes import i8
from npu_dialect.npu.host import HostOp
from npu_dialect.runtime import profile, report_page
from npu_dialect.runtime.program import Placement
from npu_dialect.runtime.quantities import change, short, shorts, si, size
from npu_dialect.runtime.report_page import data, roofline
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.simulator import simulate

VOID = ("meta", "input", "option", "br")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run() -> Run:
    return simulate(convolve_and_pool(), X)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return report_page.html(run)


class Tags(HTMLParser):
    """Checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]
        self.ids += [v or "" for name, v in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed(page: str):
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert len(tags.ids) == len(set(tags.ids))


def test_the_page_needs_nothing_else(page: str):
    tags = Tags()
    tags.feed(page)
    assert all(link.startswith("#") for link in tags.links)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp", page)


def test_links_lead_to_sections(page: str):
    tags = Tags()
    tags.feed(page)
    assert {link[1:] for link in tags.links} <= set(tags.ids)


def test_names_are_escaped():
    made = program([fill("spm", 0, 1)], layers=["</script><script>alert(1)"])
    page = report_page.html(simulate(made, {}))
    assert "<script>alert" not in page


def test_a_program_without_array_work_or_placement_has_no_such_section():
    made = program([fill("spm", 0, 16)])
    page = report_page.html(Run.without_data(made))
    assert 'id="roofline"' not in page
    assert 'id="placement"' not in page


def test_a_program_without_instructions_has_a_page():
    assert "takes no time" in report_page.html(Run.without_data(program([])))


def test_the_page_names_layers_and_totals(page: str, run: Run):
    for text in (*(layer.name for layer in run.layers), f"{run.cycles:,}", "trust ratios"):
        assert text in page


def test_the_page_says_where_operations_run_and_why():
    placements = [Placement("a", "Conv", "host", "array-types", "no such types")]
    made = program([fill("spm", 0, 16)], placements=placements)
    page = report_page.html(Run.without_data(made))
    assert "no such types" in page


def test_the_page_is_called_by_the_program(run: Run):
    assert "<h1>keyword on edge256</h1>" in report_page.html(run, name="keyword")


def test_work_of_the_host_is_said_first():
    bound = {"resources": [1, 0, 0, 0], "dram_bytes": 0, "host": ["a"], "layers": []}
    o = dense("dram", 0, i8, [64])
    op = HostOp(place="host", function=0, inputs=[o], outputs=[o], macs=0, elements=64)
    made = program([op])
    entry = replace(made.entries["main"], metadata={"bound.main": json.dumps(bound)})
    page = report_page.html(Run.without_data(replace(made, entries={"main": entry})))
    assert "1 layer runs on the host, which takes 100% of the time" in page


def test_a_program_that_leaves_the_scratchpad_alone_has_no_map_of_it():
    o = dense("dram", 0, i8, [64])
    op = HostOp(place="host", function=0, inputs=[o], outputs=[o], macs=0, elements=64)
    assert data.of(profile.of(program([op])))["buffers"] == []


def test_a_baseline_is_a_section_of_its_own(run: Run):
    before = run.summary()
    before["cycles"] = 2 * run.cycles
    page = report_page.html(run, before)
    assert f"{2 * run.cycles:,} cycles became {run.cycles:,}: 2.00 × the speed" in page


def test_a_rate_names_the_best_operating_point(run: Run):
    page = report_page.html(run, frames_per_second=30)
    assert "30 frames a second" in page
    assert "The least energy in time: low" in page


# The timeline's data


def test_the_timeline_has_every_instruction(run: Run):
    found = data.of(run.profile)
    rows = {e["name"]: e["rows"] for e in found["engines"]}
    # start, cycles, layer, operation, what bounds it, number, how many
    assert rows["mxu"][:2] == [678, 178]
    assert [found["names"][k] for k in rows["mxu"][2:5]] == ["conv", "npu.conv2d", "spm"]
    assert rows["mxu"][5:] == [2, 1]


def test_the_critical_path_of_the_timeline_has_no_gap(run: Run):
    flat = data.of(run.profile)["critical"]
    spans = [(flat[k], flat[k] + flat[k + 1]) for k in range(0, len(flat), 4)]
    assert spans[0][0] == 0
    assert spans[-1][1] == run.cycles
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_many_instructions_of_a_layer_are_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data, "MOST", 3)
    found = profile.of(program([fill("spm", 16 * k, 16) for k in range(5)], layers=["a"] * 5))
    (rows,) = (e["rows"] for e in data.of(found)["engines"])
    # five fills of 16 + 1 cycles
    assert rows[:2] == [0, 5 * 17]
    assert rows[6:] == [5]


def test_the_data_stands_in_the_page(page: str, run: Run):
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found
    assert json.loads(found.group(1)) == data.of(run.profile)


# The roofline


def test_a_point_is_work_per_byte_and_per_cycle(run: Run):
    (conv,) = roofline.points(run.profile)
    # 8 x 8 x 9 x 4 x 8 products, 288 + 256 bytes; dma and array work 178 cycles each
    assert conv.intensity == 18432 / 544
    assert conv.rate == 18432 / 178


def test_the_ridge_is_where_the_roofs_meet(run: Run):
    assert roofline.ridge(run.profile) == 256 / 3.75


def test_no_point_lies_above_the_roof(run: Run):
    for point in roofline.points(run.profile):
        assert point.rate <= 256
        assert point.intensity is None or point.rate <= 3.75 * point.intensity


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (3.674e-3, "3.67 ms"), (9.9996e-4, "1.00 ms"), (12.5e-6, "12.5 µs"),
     (851e-9, "851 ns"), (2.0, "2.00 s"), (1.3e9, "1.30 Gs")],
)  # fmt: skip
def test_si_has_three_digits(value: float, text: str):
    assert si(value, "s") == text


def test_sizes_are_in_powers_of_two():
    assert [size(n) for n in (0, 1023, 1024, 3 << 20, 5 << 30)] == [
        "0 B", "1,023 B", "1.0 KiB", "3.0 MiB", "5.0 GiB",
    ]  # fmt: skip


def test_a_long_name_loses_its_middle():
    assert short("model/a/block/expand/Conv2D", 16) == "model/a/…/Conv2D"
    assert short("conv", 16) == "conv"


def test_short_names_that_would_look_alike_stay_whole():
    names = ["first/layer_1/relu", "first/layer_2/relu", "last/layer/of/all"]
    assert shorts(names, 10) == {names[0]: names[0], names[1]: names[1], names[2]: "last/…/all"}


def test_a_change_is_relative():
    assert [change(*pair) for pair in ((3, 4), (4, 4), (1, 0))] == ["-25.0 %", "=", "new"]


# In a browser


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_draws_the_timeline(page: str, tmp_path: Path, scheme: int):
    (tmp_path / "r.html").write_text(page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    options += ["--enable-logging=stderr", f"--blink-settings=preferredColorScheme={scheme}"]
    found = subprocess.run(
        [str(BROWSER), *options, f"--user-data-dir={tmp_path}/profile", "--dump-dom",
         f"file://{tmp_path}/r.html"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    # the critical path, three engines, power, what is held, dram in two directions, the scratchpad
    assert 'data-tracks="9"' in found.stdout
    assert "CONSOLE" not in found.stderr
