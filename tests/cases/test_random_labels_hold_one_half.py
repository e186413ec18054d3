"""Labels at random and a classifier with an intercept: ranked across folds its AUC was .31 [.18, .46].

After https://github.com/stan-dev/projpred/issues/78 and https://github.com/scikit-learn/scikit-learn/issues/9827.
"""

import numpy as np

from framework.evaluate import leaderboard
from tests.experiments.conftest import call


def test_the_interval_of_random_labels_holds_one_half(tmp_path):
    rng, lines = np.random.default_rng(0), ["id,time,x,stage"]
    for i in range(60):
        lines += [f"s{i:02},{t},{rng.normal():.3f},{'ill' if rng.random() < 0.5 else 'well'}" for t in range(2)]
    (tmp_path / "noise.csv").write_text("\n".join(lines) + "\n")
    said = call(
        "compare",
        *("data=table", f"data.path={tmp_path}/noise.csv", f"data.store={tmp_path}/store", f"runs={tmp_path}/runs"),
        *("data.reader.subject=id", "+data.reader.variables.x={}", "data.targets=[stage]", "models=[logistic]"),
        "+data.reader.variables.stage={roles: [input, target], levels: [well, ill], ordered: true, positive_from: ill}",
        *("split.folds=10", "repeats=1", "report=false", "resamples=200"),
    )
    assert said.code == 0, said.err
    rows, _ = leaderboard.read(next((tmp_path / "runs" / "compare").iterdir()))
    auc = {row.model: row for row in rows if row.metric == "AUC"}
    assert auc["logistic"].low < 0.5 < auc["logistic"].high
    assert abs(auc["logistic"].value - 0.571) < 0.01  # the pairs of one fold alone, counted one by one
    floor = auc["logistic"].differences["last_visit"]
    assert floor.low < 0 < floor.high
    assert f"; AUC compares {auc['logistic'].comparable} pairs, each within a fold" in said.out
