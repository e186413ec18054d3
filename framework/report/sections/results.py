"""Results: the leaderboard, and for each target its metrics with their differences to the reference forecasts."""

from framework.evaluate.outcomes import Outcomes
from framework.evaluate.terminal_table import abbreviations, compared, reasons
from framework.report.exhibits import metric_tables
from framework.report.exhibits.comparison import differences, sentence, values
from framework.report.finished_run import Run
from framework.report.sections.base import Content, Page, Section, titled


def render(page: Page) -> Content:
    """The headline table, warnings of fits, and a block for each target."""
    run = page.run
    warned = run.manifest.get("warnings", {}).items()
    return {
        "overall": metric_tables.overall({one.target.name: run.metrics(one.target.name)[0] for one in run.outcomes}),
        "targets": [_target(page, name, one) for name, one in page.named_targets()],
        "abbreviations": abbreviations([row.metric for row in run.rows]),
        "undefined": _undefined(run),
        "warnings": [f"{model}: {note}" for model, notes in warned for note in notes],
        "folds": bool(run.outcomes) and int(run.outcomes[0].fold.max()) > 0,
    }


def _target(page: Page, name: str, one: Outcomes) -> Content:
    run, metrics = page.run, page.run.metrics(one.target.name)
    panels = [differences(metrics[0], page.pens, reference, name) for reference in run.references]
    return titled(one) | {
        "pairs": len(one.truth),
        "subjects": len(one.subjects),
        "compared": compared(metrics[0]),
        "reasons": reasons(metrics),
        "sentence": sentence(metrics[0], run.references),
        "panels": [values(metrics[0], page.pens, name), *(panel for panel in panels if panel)],
        "metrics": metric_tables.metrics(one.target.name, metrics, run.references),
    }


def _undefined(run: Run) -> list[str]:
    """Metrics that some resamples left undefined, with how many did."""
    worst: dict[tuple[str, str], int] = {}
    for row in run.rows:
        worst[row.target, row.metric] = max(row.undefined, worst.get((row.target, row.metric), 0))
    return [f"{metric} of {target} ({count} of {run.resamples})" for (target, metric), count in worst.items() if count]


SECTION = Section("results", "Results", 10, render)
