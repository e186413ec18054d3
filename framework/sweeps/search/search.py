"""Search: trials are drawn, run in batches by any launcher, recorded, and resumed after a kill."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from framework.sweeps.search import samplers
from framework.sweeps.search.hyperband import Bracket, Fidelity, Rung, batches, hyperband
from framework.sweeps.search.settings import Settings
from framework.sweeps.search.space import Space

Values = Sequence[float] | None  # of a job's objectives; None where it failed
Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Values]]


class Search:
    """Search that adds trials to a study. `launch(overrides of each job, number of the first job)` runs jobs.

    Drawn settings are saved before they are run, and depend only on the seed and the results recorded before; so a
    search that was killed runs its last batch again (whose finished jobs are found, not repeated) and gives the same
    trials. A job's number determines its trial and rung.
    """

    def __init__(self, study: optuna.Study, space: Space, settings: Settings, launch: Launch):
        self._study, self._space, self._settings, self._launch = study, space, settings, launch
        self._fidelity = Fidelity.of(settings.fidelity) if settings.uses_fidelity else None
        self._limit = samplers.grid_size(space.dimensions) if settings.sampler == "grid" else math.inf
        samplers.build_sampler(settings, space.dimensions, 0)  # raises where it cannot be built
        study.sampler = optuna.samplers.RandomSampler()  # the study itself draws nothing

    def run(self) -> None:
        for bracket in self.brackets():
            numbers = self._draw(bracket)
            for rung in bracket.rungs:
                numbers = self._run_rung(bracket, rung, numbers)

    def brackets(self) -> Iterator[Bracket]:
        """Yield the brackets, in order."""
        trials = int(min(self._settings.trials, self._limit))
        if self._fidelity is None:
            return batches(trials, self._settings.batch)
        return hyperband(trials, self._fidelity)

    def _draw(self, bracket: Bracket) -> list[int]:
        """Return the numbers of a bracket's trials; missing trials are drawn, each saved in one step.

        They are drawn in a copy of the study in memory, since Optuna saves a trial setting by setting: a search that
        was killed in between would resume with other settings.
        """
        trials, end = self._study.get_trials(deepcopy=False), bracket.first + bracket.size
        if self._settings.sampler == "grid":
            end = min(end, int(self._limit))
        if len(trials) < end:
            copy = optuna.create_study(directions=self._study.directions)
            copy.add_trials(trials)
            for number in range(len(trials), end):
                copy.sampler = samplers.build_sampler(self._settings, self._space.dimensions, number)
                drawn = copy.ask(dict(self._space.dimensions))
                self._study.add_trial(
                    create_trial(state=TrialState.RUNNING, params=drawn.params, distributions=drawn.distributions)
                )
        return list(range(bracket.first, end))

    def _run_rung(self, bracket: Bracket, rung: Rung, numbers: Sequence[int]) -> list[int]:
        """Run the jobs of a rung unless all have values; return the numbers of the promoted trials."""
        trials = self._study.get_trials(deepcopy=False)
        if not all(self._has_value(trials[number], rung) for number in numbers):
            jobs = [job for number in numbers for job in self._jobs(trials[number], rung)]
            k = len(self._space.repeats)
            values = self._launch(jobs, (bracket.job + rung.jobs) * k)
            for i, number in enumerate(numbers):
                self._tell(trials[number], rung, _mean(values[i * k : (i + 1) * k]))
        return self._promote(rung, numbers)

    def _has_value(self, trial: FrozenTrial, rung: Rung) -> bool:
        return trial.state.is_finished() or rung.level in trial.intermediate_values

    def _jobs(self, trial: FrozenTrial, rung: Rung) -> list[list[str]]:
        """Return a trial's jobs at this rung, one for each repeat."""
        overrides = self._space.overrides(trial.params)
        if self._fidelity is not None:
            overrides.append(f"{self._fidelity.key}={rung.level}")
        return [[*overrides, *repeat] for repeat in self._space.repeats]

    def _tell(self, trial: FrozenTrial, rung: Rung, values: Values) -> None:
        if self._has_value(trial, rung):
            return
        if values is None:
            self._study.tell(trial.number, state=TrialState.FAIL)
            return
        if rung.level is not None:
            optuna.trial.Trial(self._study, trial._trial_id).report(values[0], rung.level)
        if rung.keep == 0:
            self._study.tell(trial.number, list(values))

    def _promote(self, rung: Rung, numbers: Sequence[int]) -> list[int]:
        """Return the best trials of a rung, in order of their numbers, and prune the others."""
        if rung.level is None or rung.keep == 0:
            return []
        trials, level = self._study.get_trials(deepcopy=False), rung.level
        reached = [trials[number] for number in numbers if level in trials[number].intermediate_values]
        reached.sort(key=lambda trial: (trial.intermediate_values[level], trial.number))
        for trial in reached[rung.keep :]:
            if not trial.state.is_finished():
                self._study.tell(trial.number, state=TrialState.PRUNED)
        return sorted(trial.number for trial in reached[: rung.keep])


def summarize_study(study: optuna.Study, space: Space) -> str:
    """Return the numbers of ended, failed and pruned trials, and the best trials (several on a Pareto front)."""
    trials: list[Any] = study.get_trials(deepcopy=False)
    count = Counter(trial.state for trial in trials)
    ended = sum(trial.state.is_finished() for trial in trials)
    failed, pruned = count[TrialState.FAIL], count[TrialState.PRUNED]
    lines = [f"search: {ended} of {len(trials)} trials ended, {failed} failed, {pruned} pruned"]
    best = (
        ([study.best_trial] if len(study.directions) == 1 else study.best_trials) if count[TrialState.COMPLETE] else []
    )
    for trial in best:
        values = ", ".join(f"{value:.4g}" for value in trial.values)
        lines.append(f"  best {values} (trial {trial.number}): {' '.join(space.sampled_overrides(trial.params))}")
    return "\n".join(lines)


def _mean(jobs: Sequence[Values]) -> Values:
    """Return the mean of each objective over a trial's repeats; None where one failed."""
    values = [objectives for objectives in jobs if objectives is not None]
    if len(values) < len(jobs):
        return None
    return [sum(column) / len(values) for column in zip(*values, strict=True)]
