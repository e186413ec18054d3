"""A small study made by chance: three targets, three models, five repeats."""

import numpy as np
import pytest

from framework.evaluate.outcomes import Outcomes
from framework.types import Categorical, Measured, Number

MMSE = Number("MMSE", 0, "points")
CDR = Categorical("CDR", 1, ("0.0", "0.5", "1.0", "2.0"), ordered=True, positive_from="0.5")
NWBV = Number("nWBV", 2, "fraction of eTIV")
Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.645])  # of LEVELS, under a normal law
SKILL = {"last_visit": 1.0, "slope": 1.25, "cnn_gru": 0.8}


def courses(subjects: int, seed: int):
    """Visit times of each subject, and the three targets at them."""
    rng = np.random.default_rng(seed)
    for i in range(subjects):
        times = np.cumsum(np.r_[0, rng.uniform(0.8, 2.2, rng.integers(1, 5))])
        pace = max(0.0, rng.normal(0.6, 0.9))
        mmse = np.clip(29 - pace * times - 2 * pace + rng.normal(0, 1, len(times)), 4, 30).round()
        nwbv = (0.76 - 0.006 * (1 + pace) * times + rng.normal(0, 0.004, len(times))).round(3)
        cdr = np.digitize(pace * (1 + times) + rng.normal(0, 0.4, len(times)), [1.2, 3, 6])
        yield f"OAS2_{i + 1:04d}", times, {"MMSE": mmse, "CDR": cdr, "nWBV": nwbv}


def outcomes(subjects: int = 40, repeats: int = 5, seed: int = 0) -> list[Outcomes]:
    rng = np.random.default_rng(seed + 1)
    people = list(courses(subjects, seed))
    rows = [
        (i, o, t) for i, (_, times, _) in enumerate(people) for o in range(len(times)) for t in range(o + 1, len(times))
    ]
    subject, origin, later = np.array(rows).T
    folds = np.stack([rng.integers(0, 5, subjects)[subject] for _ in range(repeats)])

    def column(name: str, place: np.ndarray) -> np.ndarray:
        return np.array([people[i][2][name][j] for i, j in zip(subject, place, strict=True)], float)

    def forecast(target: Measured, skill: float) -> np.ndarray:
        last, truth = column(target.name, origin), column(target.name, later)
        noise = rng.normal(0, 0.5, (repeats, len(rows)))
        if isinstance(target, Categorical):
            middle = truth + skill * noise if skill < 1 else last + 0.1 * noise
            scores = -((np.arange(len(target.levels)) - middle[..., None]) ** 2)
            return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        spread = 1.3 * np.std(truth - last)
        middle = last + (1.2 - skill) * (truth - last) + 0.1 * skill * spread * noise
        return np.sort(middle[..., None] + skill * 0.7 * spread * Z, axis=-1)

    times = [np.array([people[i][1][j] for i, j in zip(subject, place, strict=True)]) for place in (origin, later)]
    return [
        Outcomes(
            target=target,
            subjects=tuple(name for name, _, _ in people),
            subject=subject,
            fold=folds,
            origin=origin,
            origin_time=times[0],
            time=times[1],
            truth=column(target.name, later),
            forecasts={model: forecast(target, skill) for model, skill in SKILL.items()},
        )
        for target in (MMSE, CDR, NWBV)
    ]


@pytest.fixture(scope="session")
def study():
    """Makes the outcomes of the three targets, MMSE, CDR and nWBV."""
    return outcomes
