"""The page of a sweep, from its jobs' lines."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from framework.digests import seal
from framework.errors import UserError
from framework.report import sweep_page
from tests.report.test_page import Page


def rows(folder: Path, settings: int = 12) -> list[dict]:
    rng, made = np.random.default_rng(0), []
    for rate in 10 ** rng.uniform(-4, -1, settings):
        head = rng.choice(["gru", "ssm"])
        for seed in (0, 1, 2):
            run = folder / "runs" / str(len(made))
            run.mkdir(parents=True)
            (run / "cost.json").write_text(json.dumps({"gru": {"seconds": 40, "compile_seconds": 6, "members": 4}}))
            seal(run)
            failed = "the loss is <no> number" if rate > 0.03 and seed else None
            value = None if failed else float((np.log10(rate) + 2.7) ** 2 + rng.normal(0, 0.1))
            told = [
                "+data.notes={a: 'b c'}",
                f"model/head={head}",
                f"training.optimizer.learning_rate={rate:.5g}",
                f"seed={seed}",
            ]
            made.append({"job": len(made), "overrides": told, "value": value, "run": str(run), "failed": failed})
    return made


def drawn(folder: Path, told: list[dict]) -> tuple[Page, str]:
    text = sweep_page.build(folder, told).read_text()
    return Page(text), text


def test_the_page_is_whole_and_tells_all_of_it(tmp_path):
    told = rows(tmp_path)
    page, text = drawn(tmp_path, told)
    words = " ".join(" ".join(page.words).split())
    failed = [row for row in told if row["failed"]]
    assert failed
    assert f"{len(told) - len(failed)} of {len(told)} jobs finished" in words
    assert len(set(page.ids)) == len(page.ids)
    assert page.references <= set(page.ids)
    assert words.count("the loss is <no> number") == len(failed)
    assert f"Device-seconds of {len(told)} jobs {10 * len(told)} Share of it compiling 15%" in words
    assert not re.findall(r"https?://|url\((?!#)", text)
    assert {"parallel", "by-model/head", "by-training.optimizer.learning_rate"} <= {
        mark.split("-patch")[0].split("-figure")[0] for mark in page.ids if "figure_1" in mark
    }


def test_the_command_of_the_best_run_can_be_typed(tmp_path):
    told = rows(tmp_path)
    best = min((row for row in told if row["value"] is not None), key=lambda row: row["value"])
    page, _ = drawn(tmp_path, told)
    [command] = [word for word in page.words if word.startswith("python -m experiments.forecast")]
    assert shlex.split(command)[3:] == best["overrides"]


def test_settings_stand_by_their_mean_over_seeds(tmp_path):
    told = rows(tmp_path)
    jobs = [sweep_page._job(row) for row in told if row["value"] is not None]
    ranked = sweep_page.standings(jobs, ["model/head", "training.optimizer.learning_rate", "seed"])
    assert [one.mean for one in ranked] == sorted(one.mean for one in ranked)
    assert len(ranked) == 12
    first = ranked[0]
    values = [job.value for job in jobs if dict(job.settings) | first.settings == dict(job.settings)]
    assert (first.jobs, first.mean) == (3, pytest.approx(np.mean(values)))
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)  # Student's t with two degrees of freedom
    assert (first.low, first.high) == pytest.approx((first.mean - half, first.mean + half))


def test_many_values_share_medians():
    assert [some.sum() for some in sweep_page._neighbours(np.arange(24.0))] == [3] * 8
    assert [some.sum() for some in sweep_page._neighbours(np.array([1.0, 1, 2, 5]))] == [2, 1, 1]


@pytest.mark.parametrize("kind", ["one job", "seeds alone", "all failed", "a key that some lack"])
def test_sweeps_with_little_to_draw(kind, tmp_path):
    told = rows(tmp_path, 3)
    if kind == "one job":
        told = told[:1]
    if kind == "seeds alone":
        told = told[:3]
    if kind == "all failed":
        told = [row | {"value": None, "failed": "no room", "run": None} for row in told]
    if kind == "a key that some lack":
        told[0]["overrides"].append("training.dropout=0.3")
    page, _ = drawn(tmp_path, told)
    assert "Prognax · sweep report" in page.words


def test_a_sweep_of_which_no_job_has_ended(tmp_path):
    with pytest.raises(UserError, match="no job of the sweep"):
        sweep_page.build(tmp_path, [])
