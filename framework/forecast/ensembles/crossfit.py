"""One forecaster fitted in turns on parts of the training subjects, at the settings that suit those left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from framework.configurable import configurable, with_settings_of
from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.calibration.horizon import HeldOut
from framework.forecast.deep.forecaster import Deep
from framework.forecast.ensembles.ensemble import FittedEnsemble, read_by
from framework.forecast.fit_request import FitRequest
from framework.forecast.tabular.cross_validation import Left, half_of, held_out_answers, losses, turns
from framework.forecast.tabular.selection import combinations
from framework.forecast.target_kinds import without_events
from framework.train.cost.throughput import Cost
from framework.train.optimizer import TracedHyperparameters
from framework.types import MEDIAN, Layout


@dataclass(frozen=True)
class CrossFit(Forecaster):
    """`member` at every combination of the settings in `grid`, each fitted `folds` times, another part left out.

    Those left out are its validation subjects: they stop its training, and tell for each target which combination
    forecasts best. What forecasts is the mean of that combination's fits (Krogh & Vedelsby 1995), so that
    every training subject teaches most of them. `grid` names settings of `TracedHyperparameters`: all fits of all
    combinations are one program, run in waves of as many as `max_memory_gb` hold.
    """

    member: Forecaster
    grid: Mapping[str, Sequence[float]]
    folds: int
    max_memory_gb: float

    def __post_init__(self):
        if self.folds < 2:
            raise UserError(f"model.folds is {self.folds}; expected 2 or more, to judge by subjects left out")
        empty = [name for name, options in self.grid.items() if not options]
        if empty:
            raise UserError(f"model.grid.{empty[0]} is empty; expected one or more values to choose from")
        if self.max_memory_gb <= 0:
            raise UserError(f"model.max_memory_gb is {self.max_memory_gb}; expected memory above 0")

    def dynamic(self, layout: Layout) -> TracedHyperparameters | None:
        return self.member.dynamic(layout)

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        return [fitted for fitted, _ in self._fit(request, calibrate=False)]

    @property
    def forecasts_held_out(self) -> bool:
        return True

    def fit_held_out(self, request: FitRequest) -> list[tuple[Fitted, Mapping[str, HeldOut]]]:
        """Half of those left out in a turn neither stop its training nor choose: its fit forecasts them."""
        return self._fit(request, calibrate=True)

    def _fit(self, request: FitRequest, calibrate: bool) -> list[tuple[Fitted, Mapping[str, HeldOut]]]:
        examples = replace(request.examples, layout=without_events(request.examples.layout, "cross-fitting"))
        alone = self._base(examples.layout)
        outs = [turns(split.train | split.validation, self.folds, key) for _, split, key in request.members]
        spared = [
            [half_of(out, jax.random.fold_in(key, turn)) & calibrate for turn, out in enumerate(left)]
            for left, key in zip(outs, request.keys, strict=True)
        ]
        outs = [[out & ~own for out, own in zip(*pair, strict=True)] for pair in zip(outs, spared, strict=True)]
        inner, settings, keys = [], [], []
        for m, split, key in request.members:
            turn, given = outs[m], request.dynamics
            base = alone if given is None else jax.tree.map(lambda x, m=m: x[m], given)
            for candidate in self.candidates:
                inner += [_leaving(split, out, own) for out, own in zip(turn, spared[m], strict=True)]
                settings += [_given(base, candidate)] * len(turn)
            keys.append(jax.random.split(key, len(turn) * len(self.candidates)))
        dynamics = None if settings[0] is None else jax.tree.map(lambda *x: jnp.stack(x), *settings)
        every = replace(request, examples=examples, splits=inner, keys=jnp.concatenate(keys), dynamics=dynamics)
        lanes = iter(self._in_waves(every))
        made = []
        for turn, rest in zip(outs, spared, strict=True):
            each = [[next(lanes) for _ in turn] for _ in self.candidates]
            whole = self._whole(examples, turn, each)
            made.append((whole, whole.held_out(examples, rest) if calibrate else {}))
        return made

    def _in_waves(self, request: FitRequest) -> list[Fitted]:
        """The member fitted on all splits, as many side by side as memory holds; waves are of one size but the last."""
        count, each = len(request), self.member.member_bytes(request.examples, request.splits)
        most = max(1, int(self.max_memory_gb * 1e9 // each)) if each else count
        size = -(-count // -(-count // most))
        fitted: list[Fitted] = []
        for start in range(0, count, size):
            wave = request.at(range(start, min(start + size, count)))
            # waves of another size go on from nothing
            fitted += self.member.fit_many(wave.within(f"{start}-{size}").numbered_from(start))
        return fitted

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "weights.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        layout = without_events(layout, "cross-fitting")
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
        members = {folder.name: self.member.load(folder, layout) for folder in folders}
        return FittedEnsemble(read_by(layout, members), members, "mean", json.loads(file.read_text()))

    def parts(self) -> Sequence[Part]:
        return [replace(part, roles=("train", "validation")) if part.roles else part for part in self.member.parts()]

    @property
    def candidates(self) -> list[dict[str, float]]:
        """Every combination of settings."""
        return combinations(self.grid, [*self.grid])

    def _base(self, layout: Layout) -> TracedHyperparameters | None:
        """The member's own settings. Raises UserError where the grid names one that it has not."""
        base = self.member.dynamic(layout)
        unknown = [name for name in self.grid if not hasattr(base, name)]
        if unknown:
            raise UserError(
                f"model.grid.{unknown[0]} is no setting of {type(self.member).__name__} that members may differ in; "
                f"expected {', '.join(vars(base)) if base is not None else 'an empty grid: it has none'}"
            )
        return base

    def _whole(self, examples: Examples, outs: Sequence[Left], lanes: Sequence[Sequence[Fitted]]) -> "FittedCrossFit":
        """The mean of the best candidate's lanes for each target."""
        layout = read_by(examples.layout, {str(c): turns[0] for c, turns in enumerate(lanes)})
        each = jnp.eye(len(lanes))
        judged = losses(examples, layout.measured, outs, lanes)
        best = {name: int(np.argmin([loss(one) for one in each])) for name, loss in judged.items()}
        places = [(c, turn) for c in sorted(set(best.values())) for turn in range(len(outs))]
        members = {f"{c:03d}-{turn:02d}": lanes[c][turn] for c, turn in places}
        weights = {name: [(c == own) / len(outs) for c, _ in places] for name, own in best.items()}
        settings = {name: self.candidates[own] for name, own in best.items()}
        return FittedCrossFit(layout, members, "mean", weights, lanes[0][0].cost, settings)


@configurable("model")
@with_settings_of(Deep)
def of_network(grid: Mapping[str, Sequence[float]], folds: int, max_memory_gb: float, **settings: Any) -> CrossFit:
    """The cross-fitted network of these settings, which are those of `Deep`."""
    return CrossFit(Deep(**settings), grid, folds, max_memory_gb)


@dataclass(frozen=True)
class FittedCrossFit(FittedEnsemble):
    """The mean of one candidate's fits for each target, and which that was."""

    cost: Cost | None = None
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def chosen(self) -> Mapping[str, Any]:
        return self.settings

    def held_out(self, examples: Examples, outs: Sequence[Left]) -> dict[str, HeldOut]:
        """Forecasts of each number for the subjects left out of a fold, by its fit of the chosen candidate.

        That fit alone has not seen them, and the mean of all fits has smaller errors: outcomes are moved towards the
        forecast until errors have the size of the mean's (`errors_of_mean`).
        """
        found: dict[str, tuple[list[HeldOut], list[np.ndarray]]] = {}
        for turn, out in enumerate(outs):
            forecasts = {name: held_out_answers(one, examples, out) for name, one in self.members.items()}
            for target, weights in (self.weights or {}).items():
                chosen = [name for name, weight in zip(self.members, weights, strict=True) if weight]
                if target in forecasts[chosen[0]]:
                    own, spreads = found.setdefault(target, ([], []))
                    [left_out] = [name for name in chosen if name.endswith(f"-{turn:02d}")]
                    own.append(forecasts[left_out][target])
                    spreads.append(np.stack([forecasts[name][target].quantiles[:, MEDIAN] for name in chosen]))
        return {
            target: errors_of_mean(HeldOut.joined(own), np.concatenate(spreads, 1))
            for target, (own, spreads) in found.items()
        }


def errors_of_mean(held_out: HeldOut, medians: Float[np.ndarray, "k n"]) -> HeldOut:
    """Held-out forecasts of single fits whose errors are scaled to those of the mean of all k fits.

    The squared error of a mean of forecasts is their mean squared error less their variance about the mean (the
    ambiguity decomposition, Krogh & Vedelsby 1995), at most by the factor k. Fits that have seen a subject differ less
    there than unseen ones, so that errors stay a little too large rather than too small. Subjects have equal weight.
    """
    _, subject, rows = np.unique(held_out.subject, return_inverse=True, return_counts=True)
    middle = held_out.quantiles[:, MEDIAN]
    error = held_out.truth - middle
    single, spread = (np.average(values, weights=1 / rows[subject]) for values in (error**2, medians.var(0)))
    if single == 0:
        return held_out
    scale = np.sqrt(np.clip(1 - spread / single, 1 / len(medians), 1))
    return replace(held_out, truth=middle + scale * error)


def _leaving(split: Split, out: Left, spared: Left) -> Split:
    return replace(split, train=(split.train | split.validation) & ~out & ~spared, validation=out)


def _given(base: TracedHyperparameters | None, settings: Mapping[str, float]) -> TracedHyperparameters | None:
    if base is None:
        return None
    return replace(base, **{name: jnp.full_like(getattr(base, name), value) for name, value in settings.items()})
