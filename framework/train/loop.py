"""Training several members side by side, each until its own validation subjects stop improving."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.configurable import configurable
from framework.data.batches.batch import Drawn, Loader, Tables
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.nn.model import Model
from framework.train.cost.throughput import Cost, Meter
from framework.train.gradients import Accumulated, Whole
from framework.train.lane_compaction import Lanes, narrowed, put, taken
from framework.train.member_batches import Feed
from framework.train.memory import MemoryOptions
from framework.train.mesh import SingleDevice
from framework.train.optimizer import AdamW, TracedHyperparameters
from framework.train.rounds import Learner, run_rounds
from framework.train.step import Member, Program
from framework.types import pytree

Log = Callable[[dict], None]
Fail = Callable[[int, str], None]
REMEDY = "lower training.optimizer.learning_rate, or look at their data"


@configurable("training")
@dataclass(frozen=True)
class Training:
    """Hyperparameters of training and its memory and checkpoint options.

    Batches of up to `batch` subjects, each in `accumulate` parts; `steps` at most, a validation every `eval_every`
    steps, stopping after `patience` validations without a better one. With `ema`, a decay, the moving average of the
    parameters validates and forecasts. Prepared scans are kept in memory up to `cache_bytes`; modalities that fit whole
    into `device_cache_bytes` stay on the device. A run that is killed loses at most `checkpoint_seconds`, or
    `checkpoint_steps`.
    """

    optimizer: AdamW
    dropout: float
    target_weights: Sequence[float] | None
    batch: int
    accumulate: int
    steps: int
    eval_every: int
    patience: int
    ema: float | None
    memory: MemoryOptions
    mesh: SingleDevice
    cache_bytes: int
    device_cache_bytes: int
    checkpoint_seconds: float
    checkpoint_steps: int | None

    def __post_init__(self):
        for name in ("batch", "accumulate", "steps", "eval_every", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; expected 1 or more")
        if self.accumulate > self.batch:
            raise UserError(f"training.accumulate is {self.accumulate}; expected no more than batch={self.batch}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"training.dropout is {self.dropout}; expected 0 or more and below 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UserError(f"training.ema is {self.ema}; expected a decay between 0 and 1, or null for no average")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise UserError(f"training.checkpoint_steps is {self.checkpoint_steps}; expected 1 or more, or null")

    def dynamic(self, targets: int) -> TracedHyperparameters:
        """The arrays of one member. Raises UserError where target_weights do not match the targets."""
        weights = self.target_weights or [1.0] * targets
        if len(weights) != targets:
            raise UserError(f"training.target_weights has {len(weights)} numbers; expected one a target: {targets}")
        optimizer = self.optimizer
        numbers = (
            optimizer.learning_rate,
            optimizer.weight_decay,
            self.dropout,
            list(weights),
            optimizer.max_grad_norm,
        )
        return TracedHyperparameters(*(jnp.asarray(number, jnp.float32) for number in numbers))

    def program(self, build: Callable[[nnx.Rngs], Model], targets: Sequence[str], augment: Callable | None) -> Program:
        """The step of this training, for the network that `build` makes."""
        return Program(
            build,
            tuple(targets),
            augment,
            optimizer=self.optimizer.over(self.steps),
            gradients=Whole() if self.accumulate == 1 else Accumulated(self.accumulate),
            memory=self.memory,
            average=self.ema,
        )


@pytree
class Progress:
    """State that a run needs to resume: the members, the best parameters of each for each target so far, for how
    many rounds no target of a member has improved, and the losses of the current round. `lanes` are the
    places of the members in the current program, then -1.
    """

    members: Member
    best: PyTree
    best_loss: Float[Array, "m k"]
    waited: Int[Array, " m"]
    losses: Float[np.ndarray, "round m"]
    lanes: Int[np.ndarray, " n"]

    @property
    def places(self) -> Int[np.ndarray, " w"]:
        """The members in the current program."""
        return self.lanes[self.lanes >= 0]

    def under_way(self) -> "Progress":
        """Return the state of the members in the current program: all, until some have left."""
        return self if len(self.places) == len(self.lanes) else self.only(self.places, self.lanes)

    def only(self, places: Int[np.ndarray, " w"], lanes: Int[np.ndarray, " m"]) -> "Progress":
        """Return the state of the members at `places`, which are `lanes` among all."""
        return self._of(taken(self._state, places), self.losses[:, places], lanes)

    def within(self, whole: "Progress") -> "Progress":
        """Return `whole` with the members in the current program as they are here."""
        if len(self.places) == len(self.lanes):
            return self
        losses = np.zeros(whole.losses.shape, np.float32)
        losses[:, self.places] = self.losses
        return self._of(put(whole._state, self._state, self.places), losses, self.lanes)

    @property
    def _state(self) -> tuple[PyTree, ...]:
        return self.members, self.best, self.best_loss, self.waited

    def _of(self, state: tuple[PyTree, ...], losses: np.ndarray, lanes: np.ndarray) -> "Progress":
        members, best, best_loss, waited = state
        return replace(self, members=members, best=best, best_loss=best_loss, waited=waited, losses=losses, lanes=lanes)


def stop(member: int, why: str) -> None:
    """Raise UserError: the failure of one member ends the training of all."""
    raise UserError(why)


def train(
    program: Program,
    training: Training,
    loader: Loader,
    splits: Sequence[Split],
    dynamics: TracedHyperparameters,
    statistics: PyTree,
    keys: Key[Array, " m"],
    folder: Path | None = None,
    log: Log = lambda row: None,
    fail: Fail = stop,
) -> tuple[PyTree, Cost]:
    """Fit one member a split; its best parameters for each target by validation loss (leading axes m and k).

    Targets overfit at different times, so each keeps the parameters of its own best round.

    With a folder the run is checkpointed there and goes on from its last checkpoint. A member whose loss is not finite
    is reported to `fail(member, why)`, which raises UserError (the last healthy checkpoint stays); where it returns,
    the member stays as it was and the others go on. Raises UserError where a checkpoint cannot be written, or a split
    holds no observed target for training or validation; SystemExit on SIGTERM, after the current step and its
    checkpoint.
    """
    _answerable(loader, splits)
    training.mesh.check(training.batch, training.accumulate)
    with closing(Members(program, training, loader, splits, (statistics, dynamics), keys, log, fail)) as members:
        lost = training.checkpoint_seconds, training.checkpoint_steps
        run_rounds(members, folder, *lost, training.mesh.agreed)
    return members.best, members.cost


class Members(Learner):
    """Members of one program side by side; those that have stopped leave it where that saves enough."""

    reader: grain.DatasetIterator

    def __init__(
        self,
        program: Program,
        training: Training,
        loader: Loader,
        splits: Sequence[Split],
        arguments: tuple[PyTree, TracedHyperparameters],
        keys: Key[Array, " m"],
        log: Log,
        fail: Fail,
    ):
        self._log, self._fail, self._meter = log, fail, Meter()
        self.round, self._patience, self._mesh = training.eval_every, training.patience, training.mesh
        self.total = -(-training.steps // self.round) * self.round
        memory = training.accumulate, training.device_cache_bytes, self._mesh.count
        self._feed = Feed(loader, splits, keys, training.batch, self.round, *memory)
        self.reader = self._feed.training(self.total)
        statistics, dynamics, self._tables = self._mesh.whole((*arguments, self._feed.tables))
        self._arguments = statistics, dynamics
        self._begin(_fresh(program, training, keys, dynamics))
        self._advance = self._mesh.advancing(program.advance, self._whole.members)
        self._losses = self._mesh.judging(program.losses)

    def close(self) -> None:
        """End the reading ahead."""
        self.reader.close()

    def _begin(self, whole: Progress) -> None:
        self._whole = self._mesh.state(whole)
        self._progress = self._whole.under_way()
        self._lanes = Lanes(self._progress.places, len(self._whole.lanes), self._arguments)
        self._active = self._mesh.whole(self._progress.waited < self._patience)

    @property
    def active(self) -> bool:
        return bool(self._active.any())

    @property
    def state(self) -> Progress:
        return self._progress.within(self._whole)

    def restore(self, step: int, state: Progress) -> None:
        if self.reader.get_state()["next_index"] * self._feed.chunk != step:
            raise UserError(
                f"the checkpoint of step {step} was written at another place in the data, under other settings; "
                "fix: delete its folder"
            )
        self._begin(state)

    @property
    def best(self) -> PyTree:
        """The best parameters of each member for each target."""
        return self._mesh.fetched(self.state.best)

    @property
    def cost(self) -> Cost:
        """The time and the work of the training."""
        return self._meter.cost(int(np.max(self.state.members.step)), len(self._whole.lanes))

    def advance(self, step: int) -> int:
        lanes = self._lanes
        with self._meter.waiting():
            batches = self._mesh.batch(lanes.of(next(self.reader), axis=1))
        arguments = (self._progress.members, self._active, *lanes.arguments, self._tables, batches)
        members, loss = self._meter.time(self._advance, *arguments)
        loss = np.asarray(loss)
        self._progress = _stepped(self._progress, members, loss, step % self.round)
        self._retire(_lost(loss, self._active, step, self._feed, lanes.places))
        return step + self._feed.chunk

    def judge(self, step: int) -> None:
        lanes, members = self._lanes, self._progress.members
        shown = (self._mesh.batch(lanes.of(batch)) for batch in self._feed.validation())
        validation = (
            _validate(self._losses, members, *lanes.arguments, self._tables, shown) if self._feed.validates else None
        )
        self._retire(_misjudged(validation, self._active, step))
        self._progress = progress = self._mesh.state(_judge(self._progress, validation, self._active))
        _report(self._log, step, self.total, self._active, progress.losses, validation, self._meter, lanes.places)
        self._active = active = self._mesh.whole(progress.waited < self._patience)
        on = narrowed(np.asarray(active), self._meter.flops, self.total - step) if self._mesh.narrows else None
        if on is not None:
            self._whole, self._lanes = progress.within(self._whole), lanes.only(on)
            self._progress, self._active = progress.only(on, self._lanes.padded), active[on]
            self._meter.recompile()

    def _retire(self, failed: Mapping[int, str]) -> None:
        """Report members that failed, by their lanes; where that raises nothing, they stay as they were."""
        for lane, why in failed.items():
            self._fail(int(self._lanes.places[lane]), why)
            waited = self._progress.waited.at[lane].set(self._patience)
            self._progress, self._active = replace(self._progress, waited=waited), self._active.at[lane].set(False)


def _answerable(loader: Loader, splits: Sequence[Split]) -> None:
    examples = loader.examples
    asked = np.any([truth.observed.any(1) for truth in examples.eval_queries.truth.values()], axis=0)
    for split in splits:
        examples.check_trainable(split.train)
        if split.validation.any() and not asked[split.validation].any():
            raise UserError(
                f"none of {split.validation.sum()} validation subjects has an observed target; "
                "fix: raise split.validation, or train without: split.validation=0"
            )


def _fresh(program: Program, training: Training, keys: Key[Array, " m"], dynamics: TracedHyperparameters) -> Progress:
    members, _ = program.initial(keys)
    count, targets = len(keys), dynamics.target_weights.shape[1]
    return Progress(
        members,
        _for_each(members.judged, targets),
        jnp.full((count, targets), jnp.inf),
        jnp.zeros(count, int),
        np.zeros((training.eval_every, count), np.float32),
        np.arange(count),
    )


@partial(jax.jit, static_argnums=1)  # one small program, not three a parameter
def _for_each(params: PyTree, targets: int) -> PyTree:
    """A copy for each target (m, k, ...), because the step overwrites the members in place."""
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], targets, axis=1), params)


def _stepped(progress: Progress, members: Member, loss: Float[np.ndarray, "steps m"], place: int) -> Progress:
    losses = progress.losses.copy()  # what is being written to a checkpoint stays as it is
    losses[place : place + len(loss)] = loss
    return replace(progress, members=members, losses=losses)


def _lost(
    loss: Float[np.ndarray, "steps m"],
    active: Bool[Array, " m"],
    step: int,
    feed: Feed,
    places: Int[np.ndarray, " m"],
) -> dict[int, str]:
    """Return a message for each member whose loss is not finite: the first such step and its subjects."""
    messages: dict[int, str] = {}
    for place, member in np.argwhere(~np.isfinite(loss) & np.asarray(active)).tolist():
        subjects = feed.subjects(step + place, int(places[member]))
        why = f"the loss is not finite at step {step + place + 1}, on subjects {', '.join(subjects)}; {REMEDY}"
        messages.setdefault(member, why)
    return messages


def _misjudged(validation: Float[Array, "m k"] | None, active: Bool[Array, " m"], step: int) -> dict[int, str]:
    if validation is None:
        return {}
    lost = ~np.isfinite(np.asarray(validation)).all(1) & np.asarray(active)
    why = f"the loss of the validation subjects is not finite at step {step}; {REMEDY}"
    return dict.fromkeys(np.flatnonzero(lost).tolist(), why)


def _validate(
    losses: Callable,
    members: Member,
    statistics: PyTree,
    dynamics: TracedHyperparameters,
    tables: Tables,
    batches: Iterable[Drawn],
) -> Float[Array, "m k"]:
    sums, counts = zip(*(losses(members.judged, statistics, dynamics, tables, batch) for batch in batches), strict=True)
    return sum(sums) / jnp.maximum(sum(counts), 1)


def _judge(progress: Progress, validation: Array | None, active: Bool[Array, " m"]) -> Progress:
    """Keep the best parameters so far; without validation the latest."""
    latest, kept = progress.members.judged, (progress.best, progress.best_loss, progress.waited)
    if validation is None:
        return replace(progress, best=_for_each(latest, progress.best_loss.shape[1]))
    best, best_loss, waited = _better(latest, *kept, validation, active)
    return replace(progress, best=best, best_loss=best_loss, waited=waited)


@jax.jit  # one small program, not two a parameter
def _better(
    latest: PyTree,
    best: PyTree,
    best_loss: Float[Array, "m k"],
    waited: Int[Array, " m"],
    validation: Float[Array, "m k"],
    active: Bool[Array, " m"],
) -> tuple[PyTree, Float[Array, "m k"], Int[Array, " m"]]:
    """The best parameters of each member for each target, their losses, and for how many rounds none got better."""
    better = active[:, None] & (validation < best_loss)

    def kept(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(*better.shape, *[1] * (old.ndim - 2)), new[:, None], old)

    best = jax.tree.map(kept, latest, best)
    return best, jnp.where(better, validation, best_loss), jnp.where(better.any(1), 0, waited + active)


def _report(
    log: Log,
    step: int,
    total: int,
    active: Array,
    losses: Float[np.ndarray, "round m"],
    validation: Array | None,
    meter: Meter,
    places: Int[np.ndarray, " m"],
) -> None:
    mean = losses.mean(0)
    judged = np.full(len(mean), np.nan) if validation is None else np.asarray(validation).sum(1)
    for member in np.flatnonzero(np.asarray(active)):
        log(
            {
                "member": int(places[member]),
                "step": step,
                "of": total,
                "train": float(mean[member]),
                "validation": float(judged[member]),
                "seconds": float(np.round(meter.elapsed, 3)),
            }
        )
