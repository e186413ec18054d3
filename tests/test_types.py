"""The kinds of target: each in one group of a layout, none of them passed over in silence."""

import inspect
from dataclasses import dataclass

import pytest
from flax import nnx

from framework.evaluate.metrics.registry import metrics_for
from framework.evaluate.outcomes import answer_names
from framework.forecast.mixed.design import numbers
from framework.nn.model import _output
from framework.report.methods.text import kind
from framework.types import Categorical, Event, Layout, Number

TARGETS = (Number("score", 0, "points"), Event("death", (1.0, 2.0)), Categorical("stage", 1, ("low", "high")))


@dataclass(frozen=True)
class Angle:
    """A kind of target that nothing has learnt to handle."""

    name: str


def test_a_layout_groups_its_targets_by_kind():
    layout = Layout((), (), (), TARGETS, (), ())
    number, event, stage = TARGETS
    assert (layout.numbers, layout.categoricals, layout.events) == ((number,), (stage,), (event,))
    assert layout.measured == (number, stage)


@pytest.mark.parametrize(
    ("use", "more"),
    [(metrics_for, ()), (answer_names, ()), (numbers, ()), (kind, ()), (_output, (False, 3, nnx.Rngs(0)))],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_kind_that_is_not_handled_is_refused(use, more):
    """By `assert_never` itself: what checks the types of arguments in these tests is taken off."""
    with pytest.raises(AssertionError, match="Angle"):
        inspect.unwrap(use)(Angle("heading"), *more)
