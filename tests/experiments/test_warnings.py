"""A run says once what its reader is to be warned of, and its manifest keeps it."""

import json

from tests.experiments.conftest import runs_of


def test_a_fit_that_did_not_converge_is_told_once_and_kept_in_the_manifest(run, tmp_path):
    told = run(
        "forecast", "model=quantile", "data.targets=[score]", "++model.regressor.estimator.steps=1",
        "model.regressor.grid.penalty=[1.0]", "model.folds=2", "report=false", "resamples=100",
    )  # fmt: skip
    assert told.code == 0, told.err
    lines = [line for line in told.err if "did not converge" in line]
    assert len(lines) == 1
    assert lines[0].startswith("warning: quantile: score: quantile regression did not converge")
    (folder,) = runs_of(tmp_path, "forecast")
    kept = json.loads((folder / "manifest.json").read_text())["warnings"]
    assert list(kept) == ["quantile"]
    assert kept["quantile"][0] in lines[0]
