"""Characteristics of the subjects as a table: follow-up, then each variable at its first observation."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from framework.evaluate.terminal_table import number
from framework.report.tables import Table, places_of, words

ROLES = {"future": "known ahead", "hindsight": "known only afterwards"}


def table(content: Mapping) -> Table:
    """A column for each group of subjects, from the content of participants.json."""
    groups = content["groups"]
    names = [group["name"] for group in groups]
    rows = [
        ("Subjects", "", *(f"{group['subjects']}" for group in groups)),
        ("Visits", "", *(f"{group['visits']}" for group in groups)),
        ("Visits of a subject", "median", *(_quarters(group["visits_each"]) for group in groups)),
        ("Years followed", "median", *(_quarters(group["followed"]) for group in groups)),
        ("Years followed", "longest", *(f"{group['longest']:.1f}" for group in groups)),
        *(row for variable in content["variables"] for row in _variable(variable)),
    ]
    return Table(
        "participants",
        "Characteristics of the subjects when first seen: median [quartiles], or count (share)",
        ("Characteristic", "", *names),
        [words(*row) for row in rows],
        _data(content),
        words=2,
        grouped=True,
    )


def label(variable: Mapping) -> str:
    """A variable with its unit and, where it is no plain input, its role."""
    unit = "" if variable["levels"] or variable["units"] == "1" else f" ({variable['units']})"
    roles = [ROLES.get(str(role), str(role)) for role in variable["roles"] if role != "input"]
    return f"{variable['name']}{unit}" + (f"; {', '.join(roles)}" if roles else "")


def missing(content: Mapping) -> list[str]:
    """Variables with missing values, and how many of how many are missing, in words."""
    return [
        f"{one['name']} {one['groups'][0]['missing']} of {one['groups'][0]['of']}"
        for one in content["variables"]
        if one["groups"][0]["missing"]
    ]


def _variable(one: Mapping) -> list[tuple[str, ...]]:
    name, groups = label(one), one["groups"]
    if one["levels"]:
        rows = [
            (name, level, *(_share(group["counts"], k) for group in groups)) for k, level in enumerate(one["levels"])
        ]
    else:
        rows = [(name, "median", *(_quarters(group["quarters"]) for group in groups))]
    if any(group["missing"] for group in groups):
        rows.append((name, "missing", *(f"{group['missing']} of {group['of']}" for group in groups)))
    return rows


def _share(counts: Sequence[int], place: int) -> str:
    total = sum(counts)
    return f"{counts[place]} ({counts[place] / total:.0%})" if total else "0"


def _quarters(values: Sequence[float] | None) -> str:
    if values is None:
        return "–"
    places = 0 if all(value == round(value) for value in values) else places_of(np.array(values))
    middle, low, high = (number(value, places) for value in values)
    return f"{middle} [{low}, {high}]"


def _data(content: Mapping) -> pd.DataFrame:
    """A row for each number."""
    rows = []
    for place, group in enumerate(content["groups"]):
        for name in ("subjects", "visits", "longest"):
            rows.append((group["name"], name, "", group[name]))
        for one in content["variables"]:
            own = one["groups"][place]
            counted = zip(one["levels"], own.get("counts", ()), strict=True)
            quarters = zip(("median", "lower quartile", "upper quartile"), own.get("quarters") or (), strict=False)
            parts = [*counted, *quarters, ("missing", own["missing"]), ("of", own["of"])]
            rows += [(group["name"], one["name"], what, value) for what, value in parts]
    return pd.DataFrame(rows, columns=["group", "characteristic", "part", "value"])
