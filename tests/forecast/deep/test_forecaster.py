"""What one network does not see, while others of the same study do."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from framework.data.splits.split import Split
from framework.forecast.predict import answers
from tests.cohorts import examples
from tests.contracts.recipes import forecaster

ORDER = np.arange(12)
SPLIT = Split(ORDER < 7, (ORDER >= 7) & (ORDER < 9), ORDER >= 9)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = examples(tmp_path_factory.mktemp("cohort") / "c")
    return replace(made, layout=replace(made.layout, modalities=(), grids=()))


def changed(made, name: str):
    """The same questions of subjects whose variable is another."""
    values = made.cohort.values.copy()
    values[..., made.cohort.column(name)] += 3.0
    return replace(made, cohort=replace(made.cohort, values=values))


def test_what_is_hidden_from_a_network_does_not_reach_it(made):
    fitted = forecaster("gru", "model.hidden=[score]").fit(made, SPLIT, jax.random.key(0))

    def told(of) -> np.ndarray:
        return answers(fitted, of, range(12), made.eval_queries)["volume"]

    np.testing.assert_array_equal(told(changed(made, "score")), told(made))
    assert (told(changed(made, "age")) != told(made)).any(), "another variable does"
    assert fitted.layout.inputs != made.layout.inputs
    assert [t.name for t in fitted.layout.targets] == [t.name for t in made.layout.targets]
