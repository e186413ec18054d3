"""The report: one page that explains a run and needs nothing but itself."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, select_autoescape

from framework.files import write_atomic
from framework.report import finished_run as runs
from framework.report import tables
from framework.report.finished_run import Run
from framework.report.methods import text as methods
from framework.report.methods.files import methods_files
from framework.report.sections.base import Page, sections
from framework.report.svg import pens, swatch
from framework.report.tables import Table


def build(folder: Path) -> Path:
    """Write `report.html`, and beside it its tables, methods and references, from what lies in a run folder.

    Raises UserError where it is not that of a finished run.
    """
    run = runs.read(folder)
    page = Page(run, pens(run.models, run.references), methods.section(run))
    shown = [(section, content) for section in sections() if (content := section.content(page)) is not None]
    text = (
        environment()
        .get_template("report.html")
        .render(
            run=run,
            manifest=run.manifest,
            pens=[(pen, swatch(pen)) for pen in page.pens.values()],
            sections=shown,
            missing=_missing(run),
        )
    )
    tables.write(list(_tables([content for _, content in shown])), folder / "tables")
    for name, _, methods_text in methods_files(page.methods):
        write_atomic(folder / name, methods_text)
    path = folder / "report.html"
    write_atomic(path, text)
    return path


def _tables(content: object) -> Iterator[Table]:
    """Every table that the page shows, wherever it stands."""
    if isinstance(content, Table):
        yield content
    elif isinstance(content, Mapping | list):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _tables(part)


def environment(*folders: Path) -> Environment:
    """The environment that renders pages; templates of these folders may take parts of the report's."""
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folders), PackageLoader("framework.report", "templates")]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = tables.data_uri
    made.filters["minus"] = lambda text: re.sub(r"(?<!\w)-(?=\d)", "−", text)
    return made


def _missing(run: Run) -> list[str]:
    """The files that this run has not, which leave a part of the page out."""
    parts = {
        "trajectories (history.csv)": run.history,
        "learning curves (metrics.jsonl)": run.learning,
        "the ledger (ledger.csv)": run.ledger,
        "participants (participants.json)": run.participants,
        "costs (cost.json)": run.cost,
        "the configuration (config.yaml)": run.config,
    }
    return [name for name, part in parts.items() if part is None]
