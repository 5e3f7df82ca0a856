"""The report of a run as one web page that needs nothing else: no network, no other file.

Tables, bars and the roofline are HTML and SVG made here; the timeline, which one zooms, is drawn by
`page.js` from the numbers of `data.py`. The template is Jinja's, which escapes what it inserts. No
library of plots is embedded: they are 1 to 5 MB of script, several times the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npu_dialect.runtime import quantities
from npu_dialect.runtime.report_page import content, data
from npu_dialect.runtime.run import Run

_FOLDER = Path(__file__).parent


def html(
    run: Run,
    baseline: Mapping[str, Any] | None = None,
    frames_per_second: float | None = None,
    name: str = "",
    fidelity: Mapping[str, Any] | None = None,
) -> str:
    """The page. `baseline` is the summary of another run to compare with, `name` what the program
    is called, `fidelity` what quantization costs (`Fidelity.to_json`).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    filters: dict[str, Any] = vars(environment)["filters"]
    filters.update(
        num="{:,}".format,
        pct="{:.1%}".format,
        si=quantities.si,
        size=quantities.size,
        short=quantities.short,
    )
    found = content.of(run, baseline, frames_per_second, name, fidelity)
    noise = found["fidelity"]
    if noise:
        noise["plot"] = Markup(noise["plot"])
    return environment.get_template("page.html").render(
        found,
        roofline=Markup(found["roofline"]),
        data=data.of(run.profile),
        style=Markup((_FOLDER / "style.css").read_text("utf-8")),
        script=Markup((_FOLDER / "page.js").read_text("utf-8")),
    )
