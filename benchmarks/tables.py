"""Synthetic tables on which estimators are timed, and the losses of held-out rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.datasets import make_classification

HELD_OUT = 10_000
LEAST = 1e-3  # lower bound of probabilities: a forest predicts 0 for a class that no tree has seen
GRID = {"C": [0.1, 1.0, 10.0, 100.0, 1000.0], "gamma": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
FOLDS = 5
TABLES = {"boosting": 8}  # number of tables over which losses are averaged; 1 for other families


@dataclass(frozen=True)
class Case:
    """A table and an estimator: `amount` trees of a forest, rounds of boosting; an SVC or a grid of them."""

    family: str
    rows: int
    columns: int = 100
    classes: int = 2
    amount: int = 0

    def table(self, seed: int = 0) -> tuple[Float[np.ndarray, "n f"], Int[np.ndarray, " n"]]:
        """Simulate training rows, followed by `HELD_OUT` held-out rows."""
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
    """Return a case by its name, or by `family:rows:columns:classes:amount`."""
    if name in CASES:
        return CASES[name]
    family, *sizes = name.split(":")
    return Case(family, *map(int, sizes))


def repeated(case: Case, loss: Callable[[tuple, tuple], float]) -> float:
    """Average loss(training rows, held-out rows) over the tables of the family.

    On one table of 2,000 rows the log losses of boosting libraries differ by up to 3% by chance.
    """
    losses = []
    for seed in range(TABLES.get(case.family, 1)):
        x, y = case.table(seed)
        losses.append(loss((x[: case.rows], y[: case.rows]), (x[case.rows :], y[case.rows :])))
    return float(np.mean(losses))


def log_loss(probabilities: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Return the mean of -log of the predicted probability of the true class."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], LEAST)).mean())


def hinge_loss(margins: Float[np.ndarray, "n *c"], y: Int[np.ndarray, " n"]) -> float:
    """Return the mean hinge loss; for several classes, the error rate."""
    if margins.ndim == 2:
        return float((margins.argmax(1) != y).mean())
    return float(np.maximum(0, 1 - margins * (2 * y - 1)).mean())
