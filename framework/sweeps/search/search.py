"""A search: trials are drawn, run in batches by whichever launcher there is, told, and found again after a kill."""

import math
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
    """Brings a study to as many trials as asked for. `launch(overrides of each job, the first one's number)` runs them.

    What is drawn is written down before it is run, and all of it is a function of the seed and of what was told
    before; so a search that was killed runs its last batch again (whose finished jobs are found, not made) and goes on
    as if nothing had happened. A job's number tells which trial it is, at which rung.
    """

    def __init__(self, study: optuna.Study, space: Space, settings: Settings, launch: Launch):
        self._study, self._space, self._settings, self._launch = study, space, settings, launch
        self._fidelity = Fidelity.of(settings.fidelity) if settings.halves else None
        self._limit = samplers.size(space.dimensions) if settings.sampler == "grid" else math.inf
        samplers.sampler(settings, space.dimensions, 0)  # raises where it cannot be made
        study.sampler = optuna.samplers.RandomSampler()  # nothing is drawn by the study itself

    def run(self) -> None:
        for bracket in self.brackets():
            numbers = self._drawn(bracket)
            for rung in bracket.rungs:
                numbers = self._climbed(bracket, rung, numbers)

    def brackets(self) -> Iterator[Bracket]:
        """What belongs together, in order."""
        trials = int(min(self._settings.trials, self._limit))
        if self._fidelity is None:
            return batches(trials, self._settings.batch)
        return hyperband(trials, self._fidelity)

    def _drawn(self, bracket: Bracket) -> list[int]:
        """The bracket's trials; those that are not there yet are drawn, each written whole.

        They are drawn in a twin of the study in memory, since Optuna writes a trial setting by setting: one that was
        killed in between would go on with other settings than it would have had.
        """
        there, end = self._study.get_trials(deepcopy=False), bracket.first + bracket.size
        if self._settings.sampler == "grid":
            end = min(end, int(self._limit))
        if len(there) < end:
            twin = optuna.create_study(directions=self._study.directions)
            twin.add_trials(there)
            for number in range(len(there), end):
                twin.sampler = samplers.sampler(self._settings, self._space.dimensions, number)
                drawn = twin.ask(dict(self._space.dimensions))
                self._study.add_trial(
                    create_trial(state=TrialState.RUNNING, params=drawn.params, distributions=drawn.distributions)
                )
        return list(range(bracket.first, end))

    def _climbed(self, bracket: Bracket, rung: Rung, numbers: Sequence[int]) -> list[int]:
        """Run a rung's jobs unless all are known, and say which trials go on."""
        trials = self._study.get_trials(deepcopy=False)
        if not all(self._known(trials[number], rung) for number in numbers):
            jobs = [job for number in numbers for job in self._jobs(trials[number], rung)]
            k = len(self._space.repeats)
            told = self._launch(jobs, (bracket.job + rung.jobs) * k)
            for i, number in enumerate(numbers):
                self._tell(trials[number], rung, _mean(told[i * k : (i + 1) * k]))
        return self._promoted(rung, numbers)

    def _known(self, trial: FrozenTrial, rung: Rung) -> bool:
        return trial.state.is_finished() or rung.level in trial.intermediate_values

    def _jobs(self, trial: FrozenTrial, rung: Rung) -> list[list[str]]:
        """A trial's jobs at this rung: one a repeat."""
        own = self._space.overrides(trial.params)
        if self._fidelity is not None:
            own.append(f"{self._fidelity.key}={rung.level}")
        return [[*own, *more] for more in self._space.repeats]

    def _tell(self, trial: FrozenTrial, rung: Rung, values: Values) -> None:
        if self._known(trial, rung):
            return
        if values is None:
            self._study.tell(trial.number, state=TrialState.FAIL)
            return
        if rung.level is not None:
            optuna.trial.Trial(self._study, trial._trial_id).report(values[0], rung.level)
        if rung.keep == 0:
            self._study.tell(trial.number, list(values))

    def _promoted(self, rung: Rung, numbers: Sequence[int]) -> list[int]:
        """The best of a rung, in order of their numbers; the others are pruned."""
        if rung.level is None or rung.keep == 0:
            return []
        trials, level = self._study.get_trials(deepcopy=False), rung.level
        reached = [trials[number] for number in numbers if level in trials[number].intermediate_values]
        reached.sort(key=lambda trial: (trial.intermediate_values[level], trial.number))
        for trial in reached[rung.keep :]:
            if not trial.state.is_finished():
                self._study.tell(trial.number, state=TrialState.PRUNED)
        return sorted(trial.number for trial in reached[: rung.keep])


def summary(study: optuna.Study, space: Space) -> str:
    """How many trials of how many ended in what, and the best: several where several objectives disagree."""
    trials: list[Any] = study.get_trials(deepcopy=False)
    counts = {state: sum(one.state == state for one in trials) for state in (TrialState.FAIL, TrialState.PRUNED)}
    told = ", ".join(f"{count} {name}" for count, name in zip(counts.values(), ("failed", "pruned"), strict=True))
    ended = any(one.state == TrialState.COMPLETE for one in trials)
    lines = [f"search: {sum(one.state.is_finished() for one in trials)} of {len(trials)} trials ended, {told}"]
    best = ([study.best_trial] if len(study.directions) == 1 else study.best_trials) if ended else []
    for one in best:
        values = ", ".join(f"{value:.4g}" for value in one.values)
        lines.append(f"  best {values} (trial {one.number}): {' '.join(space.drawn(one.params))}")
    return "\n".join(lines)


def _mean(jobs: Sequence[Values]) -> Values:
    """The mean of each objective over a trial's repeats; None where one failed."""
    told = [one for one in jobs if one is not None]
    if len(told) < len(jobs):
        return None
    return [sum(column) / len(told) for column in zip(*told, strict=True)]
