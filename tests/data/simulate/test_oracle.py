import dataclasses

import numpy as np
import pytest
from scipy import stats

from framework.data.simulate.course import DIAGNOSES, Parameters, cognition_law, draw_person, follow, streams
from framework.data.simulate.oracle import Line, _log_cognition, _log_diagnosis, forecast_ventricles, prior

P = Parameters()


def measured(index: int):
    """One subject's attended visits as arrays: time, ventricles, cognition, diagnosis, cortex."""
    rng = streams(11, index)[0]
    person = draw_person(rng, P)
    visits = [visit for visit in follow(person, rng, P) if "visit" not in visit.missing]
    rows = []
    for visit in visits:
        cortex = P.template_cortex * person.icv / P.template_icv * np.exp(-person.cortex_loss(visit.time))
        row = {
            "time": visit.time,
            "ventricles": np.exp(person.log_ventricles(visit.time)) * visit.ventricles_error,
            "cognition": float(visit.cognition),
            "diagnosis": float(DIAGNOSES.index(visit.diagnosis)),
            "cortex": cortex * visit.cortex_error,
        }
        rows.append([np.nan if name in visit.missing else value for name, value in row.items()])
    return person, np.array(rows).T


def test_intervals_cover_what_they_say():
    inside = {0.5: [], 0.9: []}
    error, carried = [], []
    for index in range(150):
        person, (times, ventricles, cognition, diagnosis, cortex) = measured(index)
        origin = 1 + index % (len(times) - 1)
        past = slice(origin)
        found = forecast_ventricles(
            times[past], ventricles[past], cognition[past], diagnosis[past], times[origin:], person.age, person.sex,
            person.icv, cortex[past], samples=4096,
        )  # fmt: skip
        for truth, (q05, q25, q50, q75, q95) in zip(ventricles[origin:], found.quantiles, strict=True):
            if not np.isnan(truth):
                inside[0.5].append(q25 < truth < q75)
                inside[0.9].append(q05 < truth < q95)
                if not np.isnan(ventricles[origin - 1]):
                    error.append(abs(truth - q50))
                    carried.append(abs(truth - ventricles[origin - 1]))
    assert np.mean(inside[0.5]) == pytest.approx(0.5, abs=0.09)
    assert np.mean(inside[0.9]) == pytest.approx(0.9, abs=0.05)
    assert np.mean(error) < 0.5 * np.mean(carried)


def test_same_call_same_answer_and_unmeasured_visits_change_nothing():
    person, (times, ventricles, cognition, diagnosis, _) = measured(2)
    query = np.array([4.0, 5.0])
    args = (times[:3], ventricles[:3], cognition[:3], diagnosis[:3], query, person.age)
    first, again = forecast_ventricles(*args), forecast_ventricles(*args)
    np.testing.assert_array_equal(first.quantiles, again.quantiles)
    assert np.all(np.diff(first.quantiles, axis=1) > 0)
    nothing = [np.append(values, np.nan) for values in args[1:4]]
    padded = forecast_ventricles(np.append(times[:3], 3.0), *nothing, query, person.age)
    np.testing.assert_allclose(padded.quantiles, first.quantiles, rtol=1e-9)


def test_line_is_bayesian_regression():
    rng = np.random.default_rng(0)
    design, y, noise = rng.normal(size=(4, 3)), rng.normal(size=4), 0.3
    mean, covariance = rng.normal(size=3), np.diag([1.0, 0.5, 2.0])
    line, total = Line(mean[None], covariance[None], noise), 0.0
    for row, value in zip(design, y, strict=True):
        line, likely = line.update(row[None], value)
        total += likely[0]
    precision = np.linalg.inv(covariance) + design.T @ design / noise**2
    expected = np.linalg.solve(precision, np.linalg.solve(covariance, mean) + design.T @ y / noise**2)
    np.testing.assert_allclose(line.mean[0], expected, rtol=1e-8)
    np.testing.assert_allclose(line.covariance[0], np.linalg.inv(precision), rtol=1e-8)
    marginal = stats.multivariate_normal(design @ mean, design @ covariance @ design.T + noise**2 * np.eye(4))
    assert total == pytest.approx(marginal.logpdf(y))


def test_likelihoods_are_distributions():
    stage = np.array([0.01, 0.3, 0.9])
    scores = np.exp([_log_cognition(float(score), stage, P) for score in range(31)])
    np.testing.assert_allclose(scores.sum(0), 1, rtol=1e-6)
    mean, sd = cognition_law(0.3, P)
    drawn = np.clip(np.rint(np.random.default_rng(0).normal(mean, sd, 100_000)), 0, 30)
    assert np.exp(_log_cognition(25.0, stage, P))[1] == pytest.approx(np.mean(drawn == 25), abs=0.005)
    classes = np.exp([_log_diagnosis(k, np.array([-9.0, -2.0, -1.0, 9.0]), P) for k in range(3)])
    np.testing.assert_allclose(classes.sum(0), 1, rtol=1e-6)


def test_prior_is_the_population():
    belief = prior(75.0, "F")
    people = [draw_person(streams(5, i)[0], P) for i in range(4000)]
    stages = [np.mean([person.stage(0.0) > cut for person in people]) for cut in (P.mci_from, P.ad_from)]
    ours = 1 / (1 + np.exp(belief.rate * belief.onset))
    np.testing.assert_allclose([np.mean(ours > cut) for cut in (P.mci_from, P.ad_from)], stages, atol=0.03)
    women = [dataclasses.replace(person, age=75.0) for person in people if person.sex == "F"]
    share = np.log(P.template_cortex / P.template_icv)
    design = belief._design(3.0)
    for line, truth, extra in (
        (belief.ventricles, [w.log_ventricles(3.0) for w in women], 0.0),
        (belief.cortex, [share + np.log(w.icv) - w.cortex_loss(3.0) for w in women], P.warp_cortex),
    ):
        mean, variance, _ = line.predict(design)
        spread = np.sqrt(np.var(truth) + extra**2 + line.noise**2)
        assert mean.mean() == pytest.approx(np.mean(truth), abs=0.03)
        assert np.sqrt(variance.mean() + mean.var()) == pytest.approx(spread, abs=0.02)


def test_more_noise_means_wider_intervals():
    person, (times, ventricles, cognition, diagnosis, _) = measured(3)
    noisy = dataclasses.replace(P, ventricles_error=0.2)
    widths = []
    for p in (P, noisy):
        found = forecast_ventricles(
            times[:2], ventricles[:2], cognition[:2], diagnosis[:2], times[1:2], person.age, p=p
        )
        widths.append(found.quantiles[0, -1] - found.quantiles[0, 0])
    assert widths[1] > 2 * widths[0]
