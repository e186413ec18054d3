"""Held-out scores of estimators minus those of their counterparts, over seeds.

    python -m benchmarks.parity [--seeds 10] [--tables wine digits] [--families forest svc]

Real tables, a simulated one of house prices and synthetic ones of 500 to 20,000 rows; each seed gives a new split (a
quarter held out) and seeds both estimators. The score is accuracy or, of a number, R², both in points (hundredths); the
counterpart is scikit-learn's or, for boosting, the best on average of LightGBM, XGBoost and HistGradientBoosting. A
case passes if its mean difference is at least -0.5 points; the ratio is the share of cases that pass. Also reported:
the share within ±0.5 points, for forests the mean difference of out-of-bag scores, and for SVMs the relative difference
of the dual objective to libsvm's. Writes results/parity-<device>.json; named families or tables are appended to the
file's name.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from scipy import stats
from sklearn import datasets, ensemble, linear_model, svm
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from benchmarks import estimator_cases, measure
from framework.baselines import sklearn_api as api

LEVEL = 0.5  # points
DUAL_ROWS = 2_000  # at most, for the comparison of dual objectives

Pair = tuple[Callable[[int], Any], dict[str, Callable[[int], Any]]]


def houses(rows: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Simulate prices from eight features: income, age, rooms, bedrooms, people, household, latitude, longitude."""
    rng = np.random.default_rng(seed)
    income, age = rng.gamma(4, 1, rows), rng.uniform(1, 52, rows)
    rooms, people = rng.gamma(9, 0.6, rows), rng.lognormal(7, 0.7, rows)
    bedrooms, household = 0.2 * rooms * rng.lognormal(0, 0.15, rows), rng.gamma(9, 0.33, rows)
    north, west = rng.uniform(32.5, 42, rows), rng.uniform(-124, -114, rows)
    coast = np.abs(west + 124 - 0.9 * (42 - north))
    city = np.exp(-((north - 34) ** 2 + (west + 118) ** 2)) + np.exp(-((north - 37.7) ** 2 + (west + 122) ** 2))
    price = 0.45 * income + 1.2 * city - 0.12 * np.minimum(coast, 5) + 0.004 * age * (city > 0.2)
    price += 0.3 * np.tanh(rooms - 5) - 0.8 * np.log(household) - 0.4 * (bedrooms > 1.4) + 0.05 * np.log(people)
    return np.stack([income, age, rooms, bedrooms, people, household, north, west], 1), price + rng.normal(0, 0.4, rows)


def synthetic(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate three classes in thirty columns."""
    return datasets.make_classification(
        rows, 30, n_informative=10, n_redundant=5, n_classes=3, flip_y=0.03, random_state=0
    )


TABLES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "houses": houses,
    **{f"made-{rows}": (lambda rows=rows: synthetic(rows)) for rows in (500, 2_000, 5_000, 20_000)},
}
NUMBERS = ("diabetes", "houses")


def pairs(number: bool) -> dict[str, Pair]:
    """Return our estimator and its counterparts by family; SVMs and linear models on standardised columns."""

    def scaled(model: Callable[[], Any]) -> Callable[[int], Any]:
        return lambda seed: make_pipeline(StandardScaler(), model())

    rounds = {"n_estimators": 100, "learning_rate": 0.1}
    if number:
        return {
            "forest": (
                lambda seed: api.RandomForestRegressor(random_state=seed, oob_score=True),
                {"forest": lambda seed: ensemble.RandomForestRegressor(random_state=seed, oob_score=True, n_jobs=-1)},
            ),
            "extra": (
                lambda seed: api.ExtraTreesRegressor(random_state=seed),
                {"extra": lambda seed: ensemble.ExtraTreesRegressor(random_state=seed, n_jobs=-1)},
            ),
            "boosting": (
                lambda seed: api.BoostingRegressor(random_state=seed),
                {
                    "LightGBM": lambda seed: LGBMRegressor(random_state=seed, verbose=-1, **rounds),
                    "XGBoost": lambda seed: XGBRegressor(random_state=seed, **rounds),
                    "Hist": lambda seed: ensemble.HistGradientBoostingRegressor(
                        random_state=seed, early_stopping=False
                    ),
                },
            ),
            "svr": (scaled(lambda: api.SVR(C=10.0)), {"svr": scaled(lambda: svm.SVR(C=10.0))}),
            "ridge": (scaled(api.Ridge), {"ridge": scaled(linear_model.Ridge)}),
            "quantile": (
                scaled(lambda: api.QuantileRegressor(alpha=1e-3)),
                {"quantile": scaled(lambda: linear_model.QuantileRegressor(alpha=1e-3))},
            ),
        }
    return {
        "forest": (
            lambda seed: api.RandomForestClassifier(random_state=seed, oob_score=True),
            {"forest": lambda seed: ensemble.RandomForestClassifier(random_state=seed, oob_score=True, n_jobs=-1)},
        ),
        "extra": (
            lambda seed: api.ExtraTreesClassifier(random_state=seed),
            {"extra": lambda seed: ensemble.ExtraTreesClassifier(random_state=seed, n_jobs=-1)},
        ),
        "boosting": (
            lambda seed: api.BoostingClassifier(random_state=seed),
            {
                "LightGBM": lambda seed: LGBMClassifier(random_state=seed, verbose=-1, **rounds),
                "XGBoost": lambda seed: XGBClassifier(random_state=seed, **rounds),
                "Hist": lambda seed: ensemble.HistGradientBoostingClassifier(random_state=seed, early_stopping=False),
            },
        ),
        "svc": (scaled(api.SVC), {"svc": scaled(svm.SVC)}),
        "logistic": (
            scaled(api.LogisticRegression),
            {"logistic": scaled(lambda: linear_model.LogisticRegression(max_iter=1_000))},
        ),
    }


def compare(name: str, family: str, seeds: int) -> dict:
    """Return the mean difference in points, its 95% interval over the seeds, and both means."""
    x, y = TABLES[name]()
    ours, others = pairs(name in NUMBERS)[family]
    scores: dict[str, list[float]] = {label: [] for label in ("prognax", *others)}
    bags = []
    for seed in range(seeds):
        split = train_test_split(x, y, random_state=seed, stratify=None if name in NUMBERS else y)
        fitted = {}
        for label, model in {"prognax": ours, **others}.items():
            fitted[label] = model(seed).fit(split[0], split[2])
            scores[label].append(100 * fitted[label].score(split[1], split[3]))
        if family == "forest":
            bags.append(100 * (fitted["prognax"].oob_score_ - fitted["forest"].oob_score_))
    best = max(others, key=lambda label: np.mean(scores[label]))
    gap = np.array(scores["prognax"]) - np.array(scores[best])
    half = stats.t.ppf(0.975, seeds - 1) * gap.std(ddof=1) / np.sqrt(seeds)
    case = {
        "counterpart": best,
        "ours": round(float(np.mean(scores["prognax"])), 3),
        "theirs": round(float(np.mean(scores[best])), 3),
        "difference": round(float(gap.mean()), 3),
        "interval": [round(float(gap.mean() - half), 3), round(float(gap.mean() + half), 3)],
    }
    case |= {"out_of_bag_difference": round(float(np.mean(bags)), 3)} if bags else {}
    return case | ({"dual_difference": dual(x, y)} if family == "svc" else {})


def dual(x: np.ndarray, y: np.ndarray) -> float:
    """Return our dual objective minus libsvm's, relative, for the first class against the others, at tol 1e-4."""
    x, y = StandardScaler().fit_transform(x)[:DUAL_ROWS], (y == y[0])[:DUAL_ROWS]
    kernel, sign = rbf_kernel(x, gamma=1 / x.shape[1]), 2.0 * y - 1

    def objective(beta: np.ndarray) -> float:
        return float(0.5 * beta @ kernel @ beta - sign @ beta)

    ours = api.SVC(gamma=1 / x.shape[1], tol=1e-4).fit(x, y)
    theirs = svm.SVC(gamma=1 / x.shape[1], tol=1e-4).fit(x, y)
    beta = np.zeros(len(x))
    beta[theirs.support_] = theirs.dual_coef_[0]
    reference = objective(beta)
    return (objective(np.asarray(ours.params_.beta, np.float64)[0, : len(x)]) - reference) / abs(reference)


def main() -> None:
    """Compare every family on every table, print a table and write the record."""
    args = _arguments()
    cases = {}
    for name in args.tables or TABLES:
        for family in pairs(name in NUMBERS):
            if args.families and family not in args.families:
                continue
            case = cases[f"{name} {family}"] = compare(name, family, args.seeds)
            low, high = case["interval"]
            more = "".join(
                f"  {key.replace('_', ' ')} {case[key]:.2g}"
                for key in ("out_of_bag_difference", "dual_difference")
                if key in case
            )
            shown = f"{case['ours']:7.2f} {case['theirs']:7.2f} {case['difference']:+6.2f} [{low:+.2f}, {high:+.2f}]"
            print(f"{name:14} {family:9} {shown}  {case['counterpart']}{more}", flush=True)
    gaps = np.array([case["difference"] for case in cases.values()])
    result = measure.record("parity", estimator_cases.environment(), cases, seeds=args.seeds)
    level = {"ratio": round(float((gaps >= -LEVEL).mean()), 3), "within": round(float((abs(gaps) <= LEVEL).mean()), 3)}
    measure.write(result | level, "".join(f"-{part}" for part in (*args.families, *args.tables)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description="Scores beside counterparts.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=())
    parser.add_argument("--families", nargs="+", default=())
    return parser.parse_args()


if __name__ == "__main__":
    main()
