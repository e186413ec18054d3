"""The leaderboard as tables: one of all targets by their headline metrics, one a target of all its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from framework.evaluate.leaderboard import Estimate, Row
from framework.evaluate.terminal_table import UNESTIMABLE, bracketed, decimals, number
from framework.report.exhibits.comparison import includes_zero
from framework.report.tables import Cell, Table

ARROWS = {"lower": "↓", "higher": "↑"}


def overall(headlines: Mapping[str, Sequence[Row]]) -> Table:
    """Every model's headline metric of every target, its rank and its letters, in the order of the ranks."""
    rows = [row for some in headlines.values() for row in some]
    ranked = any(row.rank is not None for row in rows)
    placed: dict[str, dict[str, Row]] = {}
    for row in rows:
        placed.setdefault(row.model, {})[row.target] = row
    head = ["Model"]
    for target, some in headlines.items():
        head += [f"{target}: {some[0].metric} {_arrow(some[0])}", *(["Rank"] if ranked else []), "Group"]
    width = (len(head) - 1) // max(1, len(headlines))

    def cells(by_target: Mapping[str, Row]) -> list[Cell]:
        made = []
        for target, some in headlines.items():
            made += _standing(by_target[target], some, ranked) if target in by_target else [Cell("–")] * width
        return made

    # a model of fewer targets stands behind those of more, then by the mean of its ranks
    order = sorted(placed, key=lambda m: (-len(placed[m]), sum(_place(placed[m][t], headlines[t]) for t in placed[m])))
    body = [[Cell(model), *cells(placed[model])] for model in order]
    return Table("leaderboard", "Headline metric of each target, with 95% intervals", head, body, _data(rows))


def metrics(target: str, rows: Sequence[Sequence[Row]], references: Sequence[str]) -> Table:
    """Return all metrics of a target, models in the order of their ranks, with differences to the references."""
    differences = [f"Difference to {reference}" for reference in references]
    head = ("Metric", "Model", "Value", "95% interval", "Rank", "Group", *differences)
    body = [line for some in rows for line in _metric(some, references)]
    data = _data([row for some in rows for row in some])
    return Table(f"metrics-{target}", f"All metrics of {target}", head, body, data, words=2, grouped=True)


def _metric(rows: Sequence[Row], references: Sequence[str]) -> list[list[Cell]]:
    rows = sorted(rows, key=Row.loss)
    places, best = decimals(rows), rows[0].loss()
    counts = [row.comparable for row in rows if row.comparable is not None]
    pairs = f" ({min(counts)} pairs)" if counts else ""

    def difference(row: Row, reference: str) -> Cell:
        one = row.differences.get(reference)
        return Cell(bracketed(one, places, "+"), mark="zero" if includes_zero(one) else "")

    return [
        [
            Cell(f"{row.metric} {_arrow(row)}{pairs}"),
            Cell(row.model),
            Cell(UNESTIMABLE if row.value is None else number(row.value, places), mark=_best(row, best)),
            Cell("–" if row.value is None else f"[{number(row.low, places)}, {number(row.high, places)}]"),
            Cell(rank(row)),
            Cell(row.letters),
            *(difference(row, reference) for reference in references),
        ]
        for row in rows
    ]


def rank(row: Row) -> str:
    """ "2 [1, 4]", or a dash where there is none."""
    if row.rank is None:
        return "–"
    return f"{row.rank:g} [{row.rank_low:g}, {row.rank_high:g}]" if row.rank_low is not None else f"{row.rank:g}"


def _standing(row: Row, rows: Sequence[Row], ranked: bool) -> list[Cell]:
    text = bracketed(Estimate(row.value, row.low, row.high), decimals(rows))
    value = Cell(text, _sort(row.value), _best(row, min(other.loss() for other in rows)))
    return [value, *([Cell(rank(row), _sort(row.rank))] if ranked else []), Cell(row.letters)]


def _place(row: Row, rows: Sequence[Row]) -> float:
    return sum(other.loss() < row.loss() for other in rows) / len(rows)


def _best(row: Row, best: float) -> str:
    return "best" if row.value is not None and row.loss() == best else ""


def _sort(value: float | None) -> str:
    return "" if value is None else repr(value)


def _arrow(row: Row) -> str:
    return ARROWS.get(str(row.better), f"→ {row.better}")


def _data(rows: Sequence[Row]) -> pd.DataFrame:
    """A row for each metric of each model; the differences to each reference as columns."""

    def flat(row: Row) -> dict:
        tree = asdict(row)
        apart = tree.pop("differences")
        return tree | {f"{key} difference to {name}": x for name, one in apart.items() for key, x in one.items()}

    return pd.DataFrame([flat(row) for row in rows])
