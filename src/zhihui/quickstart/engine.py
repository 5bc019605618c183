"""The data engine in a quickstart: its stages on what is shipped, answered from the shipped recording."""

from __future__ import annotations

from pathlib import Path

from zhihui.quickstart.examined import examine
from zhihui.quickstart.shown import Engine
from zhihui.recipe import read_recipe, run_recipe
from zhihui.runs import atomic_open

RECIPE = Path(__file__).with_name("engine.yaml")
"""The stages, the same as those of recipes/engine.yaml up to training."""
_END = "</main>"


def run_engine(out: Path) -> Engine:
    """Run the data engine in a folder, offline, and return what to show of it; what was done before is left alone."""
    run_recipe(read_recipe(RECIPE), out)
    return examine(out)


def add_section(report: Path, engine: Engine) -> None:
    """Add a section about the data engine at the end of a report."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zhihui.quickstart"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = report.read_text(encoding="utf-8")
    head, end, tail = page.rpartition(_END)
    assert end, "a report has a main part"
    with atomic_open(report) as stream:
        stream.write(head + environment.get_template("engine.html.j2").render(engine=engine) + end + tail)
