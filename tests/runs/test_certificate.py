"""A certificate tells of every fold and check, and fails where something leaks."""

import json
from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

from framework.data.cohort.as_of import known
from framework.data.splits.split import Split
from framework.digests import seal
from framework.errors import UserError
from framework.evaluate.leakage.future_leaks import future_dependence
from framework.evaluate.leakage.probes import MEANINGS
from framework.forecast.base import Part
from framework.forecast.deep.pretrained import SEEN, digests
from framework.forecast.references import LastVisit
from framework.report.page import environment
from framework.report.sections.certificate import checks
from framework.runs.certificate import build_certificate, check_future_dependence, digest_ids, raise_on_leaks, write
from tests.evaluate.leakage.plants import Own, split, study

KEY = jax.random.split(jax.random.key(0), 1)[0]


def certified(examples, own, seen=None, learnt=None):
    forecasters = {"last_visit": LastVisit(False), "own": own}
    splits = [split()]
    blind = [
        check_future_dependence(examples, splits[0], name, one.fit(examples, splits[0], KEY))
        for name, one in forecasters.items()
    ]
    return build_certificate(examples, learnt or examples, [splits], forecasters, blind)


def test_it_tells_who_was_where_and_what_was_fitted_on_whom(tmp_path):
    examples = study()
    told = certified(examples, Own())
    assert told["holds"]
    assert all(check["holds"] for check in told["checks"])
    assert told["unrecorded"] == ["own"]
    assert told["fitted"] == [{"model": "last_visit", "part": "parameters", "on": "train"}]
    (fold,) = told["folds"]
    for role in ("train", "validation", "test"):
        ids = [examples.subjects[row] for row in np.flatnonzero(getattr(split(), role))]
        assert fold[role] == {"subjects": len(ids), "sha256": digest_ids(ids[::-1])}
    assert told["training_data"]["visits"] == told["training_data"]["of"] == int(examples.cohort.valid.sum())
    write(told, examples.subjects, [[split()]], tmp_path)
    raise_on_leaks(tmp_path, [])
    page = environment().from_string('{% include "sections/certificate.html" %}')
    page = page.render(run={"certificate": told}, content={"checks": checks(told)}, pens=[])
    assert "Every check passed." in page
    assert fold["test"]["sha256"] in page
    rows = (tmp_path / "roles.csv").read_text().splitlines()
    assert rows[0] == "subject,repeat 0 fold 0"
    assert [row.split(",")[1] for row in rows[1:]] == split().roles()


def test_whoever_is_out_is_counted_by_reason():
    told = replace(split(), out={0: "no site"})
    mask = np.arange(36) != 0
    told = Split(told.train & mask, told.validation & mask, told.test & mask, told.out)
    made = build_certificate(study(), study(), [[told]], {}, [])
    assert made["folds"][0]["out"] == {"no site": 1}


@pytest.mark.parametrize("what", ["later_visits", "later_labels", "visit_count", "hindsight"])
def test_a_forecaster_that_sees_the_future_is_named_and_the_run_refused(what, tmp_path):
    told = certified(study(), Own(sees=what))
    assert not told["holds"]
    (failed,) = [check for check in told["checks"] if not check["holds"]]
    assert (failed["name"], failed["leaks"]) == ("own: independent of the future", [what])
    write(told, study().subjects, [[split()]], tmp_path)
    with pytest.raises(UserError, match=f"own: independent of the future: {what}: {MEANINGS[what]}"):
        raise_on_leaks(tmp_path, ["two_ids"])
    raise_on_leaks(tmp_path, [what])
    with pytest.raises(UserError, match="not a leak"):
        raise_on_leaks(tmp_path, ["later"])


def test_times_of_another_future_run_forwards():
    examples = study()
    times = np.where(examples.cohort.valid, 9 * examples.cohort.times, 0).astype(np.float32)  # as padding has them
    examples = replace(examples, cohort=replace(examples.cohort, times=times))
    fitted = LastVisit(False).fit(examples, split(), KEY)
    seen = []

    class Watched(type(fitted)):
        def predict(self, visits, query):
            seen.append(visits)
            return super().predict(visits, query)

    assert future_dependence(Watched(**vars(fitted)), examples, np.flatnonzero(split().test)) == []
    counts = [np.asarray(visits.valid).sum() for visits in seen]
    assert len(set(counts)) > 1
    for visits in seen:
        for row, real in zip(np.asarray(visits.times), np.asarray(visits.valid), strict=True):
            assert (np.diff(row[real]) > 0).all()


def test_visits_that_are_learnt_from_and_asked_about_are_counted():
    examples = study()
    first = np.minimum(examples.cohort.valid.sum(1), 2)
    asks = replace(examples, about=examples.cohort.valid & (np.arange(5) >= 2))
    honest = certified(asks, Own(), learnt=replace(examples, cohort=known(asks.cohort, first)))
    assert honest["holds"]
    assert honest["training_data"]["visits"] == int(first.sum())
    leaky = certified(asks, Own(), learnt=replace(examples))
    assert [check["leaks"] for check in leaky["checks"] if not check["holds"]] == [["training"]]


@dataclass(frozen=True)
class Pretended(Own):
    """One that says it has a pretrained encoder."""

    run: str = ""

    def parts(self):
        return [Part("encoder", run=self.run)]


@pytest.mark.parametrize("met", ["nobody", "id", "scan"])
def test_an_encoder_that_has_seen_a_test_subject_is_named(met, tmp_path):
    examples = study()
    tested, others = np.flatnonzero(split().test)[0], np.flatnonzero(split().train)
    seen = {examples.subjects[row]: digests(examples.cohort, int(row)) for row in others}
    if met == "id":
        seen[examples.subjects[tested]] = []
    if met == "scan":
        seen["somebody"] = digests(examples.cohort, int(tested))[:1]
    (tmp_path / "manifest.json").write_text(json.dumps({"finished": "now", "encoders": {}}))
    (tmp_path / SEEN).write_text(json.dumps(seen))
    seal(tmp_path)
    told = certified(examples, Pretended(run=str(tmp_path)))
    assert told["holds"] == (met == "nobody")
    assert told["fitted"][1]["sha256"] == digest_ids(seen)
    assert [c["leaks"] for c in told["checks"] if c["name"] == "own: encoder"] == [
        [] if met == "nobody" else ["encoder"]
    ]
