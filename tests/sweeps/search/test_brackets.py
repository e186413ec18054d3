import pytest

from framework.errors import UserError
from framework.sweeps.search.hyperband import Fidelity, batches, hyperband
from framework.sweeps.search.settings import FIDELITY


def fidelity(**told) -> Fidelity:
    return Fidelity.of(FIDELITY | {"key": "steps", **told})


def test_brackets_are_those_of_the_paper():
    """Table 1 of Li et al. 2018: R = 81, eta = 3."""
    shapes = fidelity(least=1, most=81).shapes
    assert [size for size, _ in shapes] == [81, 34, 15, 8, 5]
    assert [[rung.level for rung in rungs] for _, rungs in shapes] == [
        [1, 3, 9, 27, 81],
        [3, 9, 27, 81],
        [9, 27, 81],
        [27, 81],
        [81],
    ]
    assert [[rung.keep for rung in rungs] for _, rungs in shapes] == [
        [27, 9, 3, 1, 0],
        [11, 3, 1, 0],
        [5, 1, 0],
        [2, 0],
        [0],
    ]


def test_every_job_has_a_number_of_its_own():
    numbers = []
    for bracket in hyperband(50, fidelity(least=10, most=100)):
        counts = [bracket.size, *(rung.keep for rung in bracket.rungs[:-1])]
        for rung, count in zip(bracket.rungs, counts, strict=True):
            numbers += range(bracket.job + rung.jobs, bracket.job + rung.jobs + count)
    assert numbers == list(range(len(numbers)))


def test_successive_halving_is_the_first_bracket_again_and_again():
    sizes = [(bracket.first, bracket.size) for bracket in hyperband(20, fidelity(least=1, most=9, brackets=1))]
    assert sizes == [(0, 9), (9, 9), (18, 9)]


def test_batches_end_where_trials_do():
    assert [(one.first, one.size, one.job) for one in batches(10, 4)] == [(0, 4, 0), (4, 4, 4), (8, 2, 8)]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({}, "hydra.sweeper.fidelity needs 'least'; for example key=training.steps least=50 most=450"),
        ({"least": 1, "most": 2}, "expected most to be at least factor=3 times least, and least above 0"),
        ({"least": 0, "most": 9}, "expected most to be at least"),
        ({"least": 1.5, "most": 9}, "hydra.sweeper.fidelity.least is 1.5; expected an integer"),
        ({"least": 1, "most": 9, "factor": 1}, "hydra.sweeper.fidelity.factor is 1; expected 2 or more"),
        ({"least": 1, "most": 9, "brackets": 0}, "brackets is 0; expected 1 or more, or null for all"),
        ({"least": 1, "mots": 9}, "hydra.sweeper.fidelity: no 'mots'; it takes key, least, most, factor, brackets"),
    ],
)
def test_what_cannot_be_halved_is_told(told, line):
    with pytest.raises(UserError) as raised:
        fidelity(**told)
    assert line in str(raised.value)
