"""The headline metric in each subgroup, as tables: a row a subgroup, a column a model."""

from collections.abc import Sequence
from itertools import groupby

from framework.evaluate.leaderboard import Estimate
from framework.evaluate.ranks import ALPHA
from framework.evaluate.subgroups import Group
from framework.evaluate.text import bracketed, decimals


def tables(groups: Sequence[Group]) -> list[dict]:
    """One table a target; `apart` marks where a subgroup fares otherwise than all others."""
    return [_table(target, list(rows)) for target, rows in groupby(groups, key=lambda row: row.target)]


def _table(target: str, rows: list[Group]) -> dict:
    places = decimals(rows)

    def line(row: Group, cells: Sequence[Group]) -> dict:
        told = [
            {
                "text": bracketed(Estimate(cell.value, cell.low, cell.high), places),
                "apart": cell.p is not None and cell.p < ALPHA,
            }
            for cell in cells
        ]
        return {"by": row.by, "level": row.level, "subjects": row.subjects, "pairs": row.pairs, "cells": told}

    parts = [list(part) for _, part in groupby(rows, key=lambda row: (row.by, row.level))]
    return {
        "target": target,
        "metric": rows[0].metric,
        "models": [row.model for row in parts[0]],
        "rows": [line(part[0], part) for part in parts],
    }
