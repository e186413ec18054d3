"""Every leak that is planted is found and named, and honest designs raise no alarm."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from framework.data.splits.split import Split
from framework.evaluate.leakage.duplicate_subjects import shared_visits
from framework.evaluate.leakage.near_duplicates import near
from framework.evaluate.leakage.probes import MEANINGS, leaks
from framework.forecast.references import LastVisit
from tests.cohorts import oasis2
from tests.evaluate.leakage.plants import Own, cohort, split, study

KEY = jax.random.key(0)
PLANTED = [
    ("normaliser", {"normalised_on": "all"}),
    ("imputer", {"imputed_on": "all"}),
    ("imputer", {"counted_on": "all"}),
    ("selection", {"selected_on": "all"}),
    ("selection", {"tuned_on": "test"}),
    ("selection", {"selected_on": "all", "tells": False}),
    ("training", {"augmented_from": "all"}),
    ("encoder", {"encoded_on": "all"}),
    ("later_visits", {"sees": "later_visits"}),
    ("later_labels", {"sees": "later_labels"}),
    ("visit_count", {"sees": "visit_count"}),
    ("hindsight", {"sees": "hindsight"}),
    ("unrepeatable", {"drifts": True}),
]


def found(forecaster, examples=None) -> set[str]:
    return {leak.name for leak in leaks(forecaster, examples or study(), split(), KEY)}


@pytest.mark.parametrize(("name", "plant"), PLANTED)
def test_a_planted_leak_is_found_and_named(name, plant):
    assert found(Own(**plant)) == {name}
    assert name in MEANINGS


def test_what_was_chosen_otherwise_is_named():
    (leak,) = leaks(Own(selected_on="all"), study(), split(), KEY)
    assert leak.found == "features"
    (leak,) = leaks(Own(tuned_on="test"), study(), split(), KEY)
    assert leak.found == "penalty"


def twin(how: str):
    """The cohort of study 0 with a test subject copied over a training subject, in whole or in its scans alone."""
    made, roles = cohort(0), split().roles()
    one, other = roles.index("test"), roles.index("train")
    entries = list(made.manifest["subjects"])
    if how == "scan":
        entries[other] = {**entries[other], "visits": [entries[one]["visits"][0], *entries[other]["visits"][1:]]}
        return replace(made, manifest={**made.manifest, "subjects": entries})
    entries[other] = {"id": entries[other]["id"], "visits": [{**v, "scans": {}} for v in entries[one]["visits"]]}
    tables = {}
    for name in ("times", "values", "observed", "static", "static_observed"):
        tables[name] = getattr(made, name).copy()
        tables[name][other] = tables[name][one]
    return replace(made, manifest={**made.manifest, "subjects": entries}, **tables)


@pytest.mark.parametrize(("how", "name"), [("person", "two_ids"), ("scan", "duplicate_voxels")])
def test_a_subject_under_two_ids_is_found_by_its_visits_or_its_scans(how, name):
    assert found(LastVisit(True), study(made=twin(how))) == {name}


def test_twins_in_one_role_are_no_leak():
    made = twin("person")
    honest = Split(split().train | split().test, np.zeros(36, bool), split().validation)
    assert not leaks(LastVisit(True), study(made=made), honest, KEY)


def designs(number: int):
    """An honest design: a cohort, a split and a forecaster that differ from number to number."""
    rng = np.random.default_rng(number)
    subjects = int(rng.integers(20, 60))
    examples = study(made=cohort(1000 + number, subjects))
    forecaster = LastVisit(bool(number % 2)) if number % 4 == 0 else Own(tells=bool(number % 2))
    return forecaster, examples, split(subjects, number)


@pytest.mark.parametrize("number", range(2))
def test_an_honest_design_raises_no_alarm(number):
    assert not leaks(*designs(number), KEY)


@pytest.mark.long
def test_a_hundred_honest_designs_raise_no_alarm():
    alarms = {number: told for number in range(100) if (told := leaks(*designs(number), KEY))}
    assert not alarms


@pytest.mark.parametrize("digits", [9, 0])
def test_people_who_are_alike_by_chance_are_not_one(digits):
    """Coarse values agree often, also visit after visit; exact ones of two people do not."""
    made = cohort(3, 200)
    made = replace(
        made,
        values=np.round(made.values[..., :2], digits),
        observed=made.observed[..., :2],
        schema=replace(made.schema, variables=made.schema.variables[:2]),
        static=np.round(made.static, digits),
    )
    assert not shared_visits(made)


def test_nobody_of_oasis_2_is_there_twice_or_a_copy():
    made = oasis2().cohort
    assert not shared_visits(made)
    assert not near(made, (), {}).pairs
