"""What estimators are timed on: made-up tables by name, and the loss their held-out rows are judged by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.datasets import make_classification

HELD_OUT = 10_000
LEAST = 1e-3  # a probability of a truth counts as no less: a forest says 0 where no tree has seen a class
GRID = {"C": [0.1, 1.0, 10.0, 100.0, 1000.0], "gamma": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
FOLDS = 5
TABLES = {"boosting": 8}  # over which losses are averaged; one for other families


@dataclass(frozen=True)
class Case:
    """Rows and columns for a forest of so many trees, boosting of so many rounds, an SVC or a grid of them."""

    family: str
    rows: int
    columns: int = 100
    classes: int = 2
    amount: int = 0

    def table(self, seed: int = 0) -> tuple[Float[np.ndarray, "n f"], Int[np.ndarray, " n"]]:
        """Rows to learn from and, after them, `HELD_OUT` more."""
        x, y = make_classification(
            self.rows + HELD_OUT,
            self.columns,
            n_informative=max(2, self.columns // 5),
            n_redundant=self.columns // 5,
            n_classes=self.classes,
            n_clusters_per_class=2,
            flip_y=0.05,
            class_sep=0.8,
            random_state=seed,
        )
        return x.astype(np.float32), y


CASES = {
    "forest-2k": Case("forest", 2_000, classes=3, amount=500),
    "forest-10k": Case("forest", 10_000, classes=3, amount=500),
    "boosting-2k": Case("boosting", 2_000, amount=100),
    "boosting-10k": Case("boosting", 10_000, amount=100),
    "boosting-100k": Case("boosting", 100_000, amount=100),
    "svc-2k": Case("svc", 2_000, classes=3),
    "svc-10k": Case("svc", 10_000, classes=3),
    "svc-2k-two": Case("svc", 2_000, 50),
    "svc-10k-two": Case("svc", 10_000, 50),
    "svc-grid": Case("grid", 1_000, 50),
}


def named(name: str) -> Case:
    """A case above, or any other as `family:rows:columns:classes:amount`."""
    if name in CASES:
        return CASES[name]
    family, *sizes = name.split(":")
    return Case(family, *map(int, sizes))


def repeated(case: Case, loss: Callable[[tuple, tuple], float]) -> float:
    """The mean of loss(rows to learn from, held-out rows) over as many tables as the family's losses need.

    On one table of 2,000 rows the log losses of boosting libraries lie up to 3% apart either way, by chance.
    """
    losses = []
    for seed in range(TABLES.get(case.family, 1)):
        x, y = case.table(seed)
        losses.append(loss((x[: case.rows], y[: case.rows]), (x[case.rows :], y[case.rows :])))
    return float(np.mean(losses))


def log_loss(chances: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Mean of -log of the probability given to what came true."""
    return float(-np.log(np.maximum(chances[np.arange(len(y)), y], LEAST)).mean())


def hinge_loss(margins: Float[np.ndarray, "n *c"], y: Int[np.ndarray, " n"]) -> float:
    """What an SVC minimises, on rows it has not seen; of several classes the share that it gets wrong."""
    if margins.ndim == 2:
        return float((margins.argmax(1) != y).mean())
    return float(np.maximum(0, 1 - margins * (2 * y - 1)).mean())
