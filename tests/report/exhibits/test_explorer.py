import json

import numpy as np
import pytest

from framework.report import finished_run as runs
from framework.report.exhibits import explorer


@pytest.fixture(scope="module")
def run(study_folder):
    return runs.read(study_folder)


def shown(run):
    return [run.shown(one.target.name) for one in run.outcomes]


def test_every_subject_and_forecast_is_there(run):
    found = explorer.explorer(run.outcomes, run.history, shown(run))
    for one, target in zip(run.outcomes, found["targets"], strict=True):
        assert [found["subjects"][row[0]] for row in target["queries"]] == [one.subjects[i] for i in one.subject]
        assert set(target["forecasts"]) == set(one.forecasts)
        assert np.allclose(target["forecasts"]["slope"], one.forecasts["slope"][0], rtol=1e-3, atol=1e-9)
        assert np.allclose([row[4] for row in target["queries"]], one.truth)
        mine = [row for row in target["seen"] if row[0] == 0]
        rows = run.history[
            (run.history["target"] == one.target.name) & (run.history["subject"] == found["subjects"][0])
        ]
        assert len(mine) == len(rows)


def test_a_page_does_not_grow_without_bound(run, monkeypatch):
    size = explorer._size(run.outcomes, [["slope"]] * 3)
    monkeypatch.setattr(explorer, "MOST", size)
    found = explorer.explorer(run.outcomes, run.history, shown(run))
    assert [list(target["forecasts"]) for target in found["targets"]] == [[name] for name in shown(run)]
    assert found["left_out"] == 0
    monkeypatch.setattr(explorer, "MOST", size // 2)
    found = explorer.explorer(run.outcomes, run.history, shown(run))
    assert found["left_out"] == len(run.outcomes[0].subjects) - len(found["subjects"]) > 0
    assert max(row[0] for row in found["targets"][0]["queries"]) < len(found["subjects"])


def test_text_cannot_end_the_script():
    assert "<" not in explorer.as_script({"subjects": ["</script><b>"]})
    assert json.loads(explorer.as_script({"subjects": ["</script>"]})) == {"subjects": ["</script>"]}


def test_without_a_history_there_is_nothing_to_draw(run):
    assert explorer.explorer(run.outcomes, None, shown(run)) is None
