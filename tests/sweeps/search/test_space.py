import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from framework.errors import UserError
from framework.sweeps.search.settings import FIDELITY, Settings
from tests.sweeps.search.toy import Jobs, search, space


@pytest.mark.parametrize(
    ("told", "distribution"),
    [
        ("interval(0,1)", FloatDistribution(0, 1)),
        ("tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", IntDistribution(1, 8)),
        ("tag(log, int(interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("range(2, 9)", IntDistribution(2, 8)),
        ("range(8, 0, -4)", IntDistribution(4, 8, step=4)),
        ("range(0, 1, 0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("range(0, 1)", CategoricalDistribution(["0"])),
        ("gru,lstm", CategoricalDistribution(["gru", "lstm"])),
        ("choice(1e-3, 3e-4)", CategoricalDistribution(["0.001", "0.0003"])),
        ("[1,2],[3]", CategoricalDistribution(["[1,2]", "[3]"])),
        ("'a b',c", CategoricalDistribution(["'a b'", "c"])),
        ("null,true", CategoricalDistribution(["null", "True"])),
    ],
)
def test_hydra_sweeps_are_distributions(told, distribution):
    assert space([f"key={told}"]).dimensions == {"key": distribution}


def test_the_rest_is_fixed_and_the_later_of_two_counts():
    made = space(["a=interval(0,1)", "+b=2", "~c", "d='x y'", "a=interval(0,2)"])
    assert made.dimensions == {"a": FloatDistribution(0, 2)}
    assert made.overrides({"a": 1 / 3}) == ["+b=2", "~c", "d='x y'", "a=0.333333333333"]


def test_the_order_of_keys_says_nothing():
    assert list(space(["b=1,2", "a=1,2"]).dimensions) == list(space(["a=1,2", "b=1,2"]).dimensions)


def test_samples_name_every_option():
    told = [line for job in space(["a=1,2,3", "b=interval(0,1)", "c=x,y"]).trial_overrides() for line in job]
    assert set(told) == {"a=1", "a=2", "a=3", "b=0", "c=x", "c=y"}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            ["a=1"],
            "nothing to search; give at least one key a range or a choice, such as training.optimizer.learning_rate=",
        ),
        (["a=interval(3,1)"], "a: interval(3, 1) is empty; expected the smaller number first"),
        (["a=tag(log,interval(0,1))"], "a: an interval from 0 has no logarithm; begin it above 0"),
        (["a=tag(lgo,interval(1,2))"], "a: no tag 'lgo'; an interval takes the tag log alone"),
        (["a=range(3,1)"], "a: range(3,1) has no values to choose from; check its limits"),
    ],
)
def test_a_space_that_cannot_be_is_told(told, line):
    with pytest.raises(UserError) as raised:
        space(told)
    assert line in str(raised.value)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"sampler": "tep"}, "hydra.sweeper: no sampler 'tep'; did you mean 'tpe'?"),
        ({"sampler": "annealing"}, "hydra.sweeper: no sampler 'annealing'; available are tpe, cmaes, random, grid"),
        ({"trials": 0}, "hydra.sweeper.trials is 0; expected 1 or more"),
        ({"sigma": 0.0}, "hydra.sweeper.sigma is 0.0; expected a fraction of each range"),
        ({"objectives": []}, "hydra.sweeper.objectives is empty; expected at least loss"),
        ({"objectives": ["AUC"]}, "hydra.sweeper: no objective 'AUC'; available are loss, seconds"),
        ({"sampler": "cmaes", "objectives": ["loss", "seconds"]}, "sampler=cmaes has one objective"),
        ({"sampler": "cmaes", "batch": 2}, "hydra.sweeper.batch is 2, a generation of cmaes; expected 4 or more"),
        ({"sampler": "cmaes", "fidelity": FIDELITY | {"key": "k"}}, "sampler=cmaes compares jobs of one length"),
        ({"objectives": ["loss", "seconds"], "fidelity": FIDELITY | {"key": "k"}}, "fidelity ranks by one objective"),
    ],
)
def test_settings_that_cannot_be_are_told(told, line):
    with pytest.raises(UserError) as raised:
        Settings(**told)
    assert line in str(raised.value)


@pytest.mark.parametrize(
    ("sampler", "keys", "line"),
    [
        ("grid", ["a=interval(0,1)"], "a: the values of an interval cannot be listed in a grid"),
        ("cmaes", ["a=x,y"], "sampler=cmaes searches numbers, got choices alone; use sampler=tpe"),
    ],
)
def test_samplers_say_what_they_cannot_draw(sampler, keys, line):
    with pytest.raises(UserError) as raised:
        search(None, Settings(sampler=sampler), Jobs(), space(keys))
    assert line in str(raised.value)
