"""Hyperparameters that each model selected while it was fitted, and in how many of its folds."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from framework.report.tables import Table, words


def table(chosen: Mapping[str, Sequence[Mapping]]) -> Table:
    """Models down; `chosen` has for each the choices of every member (a fold of a repeat), by target."""
    rows = [
        (model, target, settings, count, len(members))
        for model, members in chosen.items()
        for target in dict.fromkeys(name for member in members for name in member)
        for settings, count in Counter(_phrase(member[target]) for member in members if target in member).most_common()
    ]
    return Table(
        "chosen",
        "Settings that were selected inside, by how many fits chose them",
        ("Model", "Target", "Settings", "Fits"),
        [words(model, target, settings, f"{count} of {of}") for model, target, settings, count, of in rows],
        pd.DataFrame(rows, columns=["model", "target", "settings", "fits", "of"]),
        words=3,
        grouped=True,
    )


def _phrase(choice: object) -> str:
    if isinstance(choice, Mapping):
        return ", ".join(f"{name} {_phrase(value)}" for name, value in choice.items()) or "the only one"
    return f"{choice:g}" if isinstance(choice, float) else str(choice)
