"""Searches are the same whenever they are stopped, and do what they say."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest

from framework.errors import UserError
from framework.sweeps.search.settings import FIDELITY, Settings
from tests.sweeps.search.toy import Jobs, loss, search, space

HALVING = FIDELITY | {"key": "steps", "least": 10, "most": 90}
WAYS = {
    "tpe": {},
    "cmaes": {"sampler": "cmaes"},
    "random": {"sampler": "random"},
    "halving": {"fidelity": HALVING},
    "two": {"objectives": ["loss", "step_flops"]},
}


def told(way: str, **more) -> Settings:
    return Settings(**{"trials": 20, "startup": 5, **WAYS[way], **more})


def objective(way: str):
    return (lambda job: [*loss(job), float(job["n"])]) if way == "two" else loss


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_gives_the_same_trials(way):
    first, again, other = (search(None, told(way, seed=seed), Jobs(objective(way))) for seed in (0, 0, 1))
    assert first == again
    assert [one[0] for one in first] != [one[0] for one in other]
    assert len({str(one[0]) for one in first}) == len(first)


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ["job 0", "job 11", "tell 3", "tell 12", "add_trial 2", "add_trial 13"])
def test_a_search_stopped_anywhere_goes_on_as_if_it_had_not_been(way, where, monkeypatch):
    kind, count = where.split()

    def stop(number: int) -> None:
        if number == int(count):
            raise Stopped

    study = optuna.create_study(directions=["minimize"] * len(told(way).objectives))
    with monkeypatch.context() as patch:
        if kind != "job":
            left, honest = iter(range(int(count))), getattr(optuna.Study, kind)

            def late(self, *args, **more):
                if self is study and next(left, None) is None:
                    raise Stopped
                return honest(self, *args, **more)

            patch.setattr(optuna.Study, kind, late)
        with pytest.raises(Stopped):
            search(study, told(way), Jobs(objective(way), stop if kind == "job" else lambda _: None))
    assert search(study, told(way), Jobs(objective(way))) == search(None, told(way), Jobs(objective(way)))


def test_sixty_trials_survive_sigkill(tmp_path):
    """Real kills, of a process, while jobs run, while their values are told and while trials are drawn."""

    def run(folder: Path, kill: str) -> int:
        folder.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "tests.sweeps.search.toy", str(folder), kill], check=False, capture_output=True
        ).returncode

    kills = ["job21", "tell10", "draw5"]
    assert [run(tmp_path / "killed", kill) for kill in kills] == [-9] * len(kills)
    jobs = Jobs()
    killed = search(tmp_path / "killed" / "search.db", Settings(trials=60), jobs)
    assert killed == search(None, Settings(trials=60), Jobs())
    assert Counter(one[1] for one in killed) == {"COMPLETE": 60}
    assert jobs.batches[0] == range(32, 40)  # the batch in the midst of which it was last killed
    lines = (tmp_path / "killed" / "evaluated").read_text().splitlines()
    assert len(set(lines)) == 32


def test_a_search_that_is_done_does_nothing_and_more_trials_go_on():
    study, jobs = optuna.create_study(), Jobs()
    done = search(study, told("tpe", trials=16), Jobs())
    assert search(study, told("tpe", trials=16), jobs) == done
    assert jobs.batches == []
    more = search(study, told("tpe", trials=30), jobs)
    assert more[:16] == done
    assert more == search(None, told("tpe", trials=30), Jobs())


def test_batches_go_together_and_jobs_keep_their_numbers():
    jobs = Jobs()
    search(None, told("random", trials=10, batch=4), jobs, space(repeat=["seed=0,1", "fold=range(3)"]))
    assert jobs.batches == [range(0, 24), range(24, 48), range(48, 60)]
    assert [jobs.told[n]["seed"] + jobs.told[n]["fold"] for n in range(6)] == ["00", "01", "02", "10", "11", "12"]
    assert len({jobs.told[n]["x"] for n in range(6)}) == 1


def test_a_trial_is_the_mean_of_its_repeats():
    trials = search(None, told("random", trials=3), Jobs(), space(repeat=["seed=0,2"]))
    for params, _, values, _ in trials:
        assert values == pytest.approx([loss({**params, "seed": "1"})[0]])


@pytest.mark.parametrize("way", ["tpe", "cmaes", "halving"])
def test_a_job_that_fails_is_a_trial_that_failed_and_the_others_go_on(way):
    trials = search(None, told(way), Jobs(lambda job: None if int(job["n"]) > 6 else loss(job)))
    for params, state, values, _ in trials:
        assert (state == "FAIL") == (params["n"] > 6)
        assert values is not None or state != "COMPLETE"
    assert any(state == "COMPLETE" for _, state, *_ in trials)


def test_a_grid_has_every_point_once():
    few = space(["x=range(0,1,0.25)", "n=1,2,5", "kind=a,b"])
    trials = search(None, Settings(sampler="grid", trials=100), Jobs(), few)
    assert len(trials) == len({str(one[0]) for one in trials}) == 24


@pytest.mark.parametrize("way", ["tpe", "cmaes"])
def test_what_learns_finds_better_than_chance(way):
    numbers = space(["x=interval(0,1)", "y=tag(log,interval(1e-3,1))"])
    best = [min(one[2] for one in search(None, told(name, trials=48), Jobs(), numbers)) for name in (way, "random")]
    assert best[0] < best[1]


def test_the_best_of_a_rung_go_on():
    jobs = Jobs()
    trials = search(None, told("halving", trials=9), jobs)
    assert jobs.batches == [range(0, 9), range(9, 12), range(12, 13)]
    assert [jobs.told[n]["steps"] for n in (0, 9, 12)] == ["10", "30", "90"]
    rung = [one[3][10] for one in trials]
    assert [i for i, one in enumerate(trials) if 30 in one[3]] == sorted(sorted(range(9), key=rung.__getitem__)[:3])
    assert Counter(one[1] for one in trials) == {"PRUNED": 8, "COMPLETE": 1}
    assert min(range(9), key=rung.__getitem__) == [one[1] for one in trials].index("COMPLETE")


def test_no_state_of_a_sampler_is_kept():
    """Optuna's own CMA-ES would leave a pickle with the trials."""
    study = optuna.create_study()
    search(study, told("cmaes"), Jobs())
    assert all(trial.system_attrs == {} for trial in study.trials)


def test_one_search_at_a_time(tmp_path):
    def second(number: int) -> None:
        search(tmp_path / "a.db", told("tpe"), Jobs())

    with pytest.raises(UserError, match=r"another process is writing to .*a\.db; wait"):
        search(tmp_path / "a.db", told("tpe"), Jobs(interrupt=second))


def test_a_file_of_another_search_is_refused(tmp_path):
    search(tmp_path / "a.db", told("tpe"), Jobs())
    with pytest.raises(UserError, match=r"has seed=0, this one 1; give this search"):
        search(tmp_path / "a.db", told("tpe", seed=1), Jobs())
    with pytest.raises(UserError, match=r'has x="real from 0 to 1", this one "real from 0 to 2"'):
        search(
            tmp_path / "a.db",
            told("tpe"),
            Jobs(),
            space(["x=interval(0,2)", "y=tag(log,interval(1e-3,1))", "n=range(1,9)", "kind=a,b"]),
        )


def test_a_file_that_is_no_search_is_named(tmp_path):
    (tmp_path / "a.db").write_text("patients " * 1000)
    with pytest.raises(UserError, match=r"cannot keep a search in .*a\.db \(file is not a database\)"):
        search(tmp_path / "a.db", told("tpe"), Jobs())
    with pytest.raises(UserError, match=r"cannot write to .*; choose another place with hydra.sweeper.storage="):
        search(tmp_path / "a.db" / "b.db", told("tpe"), Jobs())
