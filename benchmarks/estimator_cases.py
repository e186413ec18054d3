"""Cases of Prognax's estimators: the classes of `framework.baselines.sklearn_api`, and a grid as one program."""

import resource
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from sklearn.model_selection import StratifiedKFold

from benchmarks.cases import Contenders
from benchmarks.tables import FOLDS, GRID, Case, hinge_loss, log_loss, named, repeated
from framework.baselines.native import forest as native
from framework.baselines.sklearn_api import SVC, BoostingClassifier, RandomForestClassifier
from framework.baselines.svm.svm import SVM

LABEL = "prognax"


def model(case: Case) -> Any:
    """Return a new estimator."""
    match case.family:
        case "forest":
            return RandomForestClassifier(case.amount, random_state=0)
        case "boosting":
            return BoostingClassifier(max_iter=case.amount)
        case "svc":
            return SVC()
    raise ValueError(f"no family {case.family!r}")


def contenders(task: str, name: str) -> Contenders:
    """Return a fit and predictions of held-out rows, or a grid.

    Facts: seconds of the first fit (which compiles), peak memory and, for the task `fit`, the loss.
    """
    case = named(name)
    x, y = case.table()
    train, test = (x[: case.rows], y[: case.rows]), (x[case.rows :], y[case.rows :])
    calls, loss = _grid(*train) if case.family == "grid" else _fit(case, train, test)
    start = time.perf_counter()
    calls[LABEL]()
    first = round(time.perf_counter() - start, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    losses = {"losses": {LABEL: loss()}} if task == "fit" else {}
    return Contenders(calls, {**losses, "first_seconds": first, "peak_bytes": peak})


def _fit(case: Case, train: tuple, test: tuple) -> tuple[dict[str, Callable], Callable[[], float]]:
    fitted = []

    def fit() -> None:
        fitted[:] = [model(case).fit(*train)]
        jax.block_until_ready(fitted[0].params_)

    def predict() -> np.ndarray:
        return (fitted[0].decision_function if case.family == "svc" else fitted[0].predict_proba)(test[0])

    def fit_loss(train: tuple, test: tuple) -> float:
        found = model(case).fit(*train)
        if case.family == "svc":
            return hinge_loss(found.decision_function(test[0]), test[1])
        return log_loss(found.predict_proba(test[0]), test[1])

    def loss() -> float:
        return repeated(case, fit_loss)

    return {LABEL: fit, f"{LABEL} predict": predict}, loss


def _grid(x: np.ndarray, y: np.ndarray) -> tuple[dict[str, Callable], Callable[[], float]]:
    """Fit every candidate on every fold at once; the rows of the held-out fold have weight 0."""
    points = list(product(*GRID.values()))
    cost, gamma = np.tile(np.array(points, np.float32), (FOLDS, 1)).T
    tested = np.zeros((FOLDS, len(y)), bool)
    for fold, (_, rows) in enumerate(StratifiedKFold(FOLDS).split(x, y)):
        tested[fold, rows] = True
    out = np.repeat(tested, len(points), 0)
    seen, recipe = np.ones(x.shape, bool), SVM(2, folds=0)

    @jax.jit
    def accuracy(x: jax.Array, y: jax.Array, settings: dict) -> jax.Array:
        keys = jax.random.split(jax.random.key(0), len(out))
        found = recipe.held_out(x, seen, y, (~out).astype(jnp.float32), keys=keys, settings=settings)
        right = (found[..., 0] > 0) == (y == 1)
        return jnp.where(out, right, False).sum(1) / out.sum(1)

    def search() -> np.ndarray:
        accuracies = accuracy(x, y.astype(np.int32), {"C": cost, "gamma": gamma})
        return np.asarray(accuracies).reshape(FOLDS, -1).mean(0)

    return {LABEL: search}, lambda: float(1 - search().max())


def environment() -> dict:
    """Return the device and the versions."""
    return {
        "device": jax.devices()[0].device_kind,
        "native": "compiled" if native.available() else "xla",
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__},
    }
