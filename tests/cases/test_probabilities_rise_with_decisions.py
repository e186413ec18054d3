"""A support vector machine that separates perfectly once had every probability on the wrong side.

Reported against scikit-learn: https://github.com/scikit-learn/scikit-learn/issues/31222.
"""

import numpy as np
import pytest

from framework.baselines import sklearn_api as api
from tests.experiments.conftest import call

DECIDED = {
    "svm, weak": api.SVC(C=1.0, gamma=1e-4, probability=True, random_state=0),
    "svm, weaker": api.SVC(C=0.01, gamma=1e-4, probability=True, random_state=0),
    "svm": api.SVC(probability=True, random_state=0),
    "svm, balanced": api.SVC(C=0.01, class_weight="balanced", probability=True, random_state=0),
    "logistic": api.LogisticRegression(),
    "logistic, weak": api.LogisticRegression(C=1e-6),
    "boosting": api.BoostingClassifier(max_iter=5, min_samples_leaf=1),
}
UNDECIDED = {
    "forest": api.RandomForestClassifier(5, random_state=0),
    "extra trees": api.ExtraTreesClassifier(5, random_state=0),
}


def table(n: int, labels: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes: the first feature is the class, says nothing of it, or one class is rare."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) >= (3 * n // 4 if labels == "rare" else n // 2)).astype(int)
    x = np.c_[2 * y - 1.0, rng.normal(size=n)]
    return (rng.normal(size=x.shape) if labels == "noise" else x), y


@pytest.mark.parametrize("labels", ["separable", "noise", "rare"])
@pytest.mark.parametrize("name", [*DECIDED])
def test_the_probability_of_two_classes_never_falls_as_the_decision_rises(name, labels):
    for n in (16, 32, 64):
        x, y = table(n, labels, n)
        made = DECIDED[name].fit(x, y)
        order = np.argsort(made.decision_function(x), kind="stable")
        ordered = made.predict_proba(x)[order, 1]
        assert (np.diff(ordered) >= -1e-7).all()
        later = made.predict(x) == 1
        if later.any() and not later.all():
            chances = made.predict_proba(x)[:, 1]
            assert chances[later].min() >= chances[~later].max() - 1e-7


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", [*(name for name in DECIDED if not name.startswith("svm")), *UNDECIDED])
def test_the_class_predicted_is_the_most_likely(name, classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = np.digitize(x[:, 0] + rng.normal(size=40), np.linspace(-1, 1, classes + 1)[1:-1])
    made = (DECIDED | UNDECIDED)[name].fit(x, y)
    np.testing.assert_array_equal(made.predict(x), made.predict_proba(x).argmax(1))


def test_a_forecast_by_support_vectors_does_not_rank_against_the_truth(tmp_path):
    """Weak machines on a stage that its last visit gives away: accuracy was 0.000 and mAUC 0.22."""
    rng = np.random.default_rng(0)
    rng.normal(size=72)
    lines = ["subject,time,stage,x"]
    for i in range(24):
        lines += [f"s{i:02},{t},{'b' if i == 3 and t else 'ac'[i % 2]},{rng.normal():.2f}" for t in range(3)]
    (tmp_path / "rare.csv").write_text("\n".join(lines) + "\n")
    told = call(
        "forecast", "data=table", f"data.path={tmp_path}/rare.csv", f"data.store={tmp_path}/store",
        f"runs={tmp_path}/runs", "+data.reader.variables.stage={roles: [input, target], levels: [a,b,c]}",
        "+data.reader.variables.x={}", "data.targets=[stage]", "model=svm", "split.folds=3", "split.fold=0",
        "report=false", "resamples=100", "model.classifier.grid.C=[1.0]", "model.classifier.grid.gamma=[0.0001]",
    )  # fmt: skip
    assert told.code == 0, told.err
    row = next(line.split() for line in told.out.splitlines() if line.split()[:1] == ["svm"])
    assert float(next(word for word in row[1:] if word.replace(".", "").isdigit())) >= 0.5
