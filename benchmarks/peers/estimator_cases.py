"""Cases of the peers' estimators: scikit-learn, LightGBM and XGBoost, each on all cores with its fastest settings."""

import platform
import traceback
from collections.abc import Callable
from typing import Any

import lightgbm
import sklearn
import xgboost
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC
from xgboost import XGBClassifier

from benchmarks.cases import Contenders
from benchmarks.measure import cores
from benchmarks.tables import FOLDS, GRID, Case, hinge_loss, log_loss, named, repeated

CACHE = 1000  # MB; holds the whole kernel matrix of the largest case


def models(case: Case) -> dict[str, Callable[[], Any]]:
    """Return constructors of estimators by name; all boosting grows trees of 31 leaves."""
    boosting = {"n_estimators": case.amount, "learning_rate": 0.1, "n_jobs": cores()}
    match case.family:
        case "forest":
            return {"scikit-learn": lambda: RandomForestClassifier(case.amount, n_jobs=-1, random_state=0)}
        case "boosting":
            return {
                "LightGBM": lambda: LGBMClassifier(num_leaves=31, verbose=-1, **boosting),
                "XGBoost": lambda: XGBClassifier(
                    tree_method="hist", grow_policy="lossguide", max_depth=0, max_leaves=31, **boosting
                ),
                "HistGradientBoosting": lambda: HistGradientBoostingClassifier(
                    max_iter=case.amount, early_stopping=False
                ),
            }
        case "svc":
            return {"scikit-learn": lambda: SVC(cache_size=CACHE)}
        case "grid":
            folds = StratifiedKFold(FOLDS)
            return {"GridSearchCV": lambda: GridSearchCV(SVC(), GRID, cv=folds, n_jobs=-1, refit=False)}
    raise ValueError(f"no family {case.family!r}")


def contenders(task: str, name: str) -> Contenders:
    """Return fits and, labelled ` predict`, predictions of the held-out rows; the losses are facts."""
    case = named(name)
    x, y = case.table()
    train, test = (x[: case.rows], y[: case.rows]), (x[case.rows :], y[case.rows :])
    calls, losses, failed = {}, {}, {}
    for label, model in models(case).items():
        try:
            fitted = model().fit(*train)
        except Exception as error:  # recorded; the other peers are still measured
            traceback.print_exc()
            failed[label] = " ".join(f"{type(error).__name__}: {error}".split())
            continue
        calls[label] = lambda model=model: model().fit(*train)
        if case.family == "grid":
            losses[label] = float(1 - fitted.best_score_)
            continue
        predict = fitted.decision_function if case.family == "svc" else fitted.predict_proba
        losses[label] = repeated(case, lambda train, test, model=model: _loss(case, model().fit(*train), test))
        calls[f"{label} predict"] = lambda predict=predict: predict(test[0])
    return Contenders(calls, {"losses": losses, "failed": failed})


def _loss(case: Case, fitted: Any, test: tuple) -> float:
    if case.family == "svc":
        return hinge_loss(fitted.decision_function(test[0]), test[1])
    return log_loss(fitted.predict_proba(test[0]), test[1])


def environment() -> dict:
    """Return the versions and the settings for speed."""
    versions = {package.__name__: package.__version__ for package in (sklearn, lightgbm, xgboost)}
    return {"device": platform.machine(), "versions": versions, "settings": f"n_jobs={cores()}, SVC cache {CACHE} MB"}
