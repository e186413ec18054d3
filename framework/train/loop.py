"""Training several members side by side, each until its own validation subjects stop improving."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.data.batch import Loader
from framework.data.split import Split
from framework.errors import UserError
from framework.train.checkpoint import Checkpoints
from framework.train.feed import Feed
from framework.train.meter import Cost, Meter
from framework.train.optimizer import Dynamic
from framework.train.step import Member, Program
from framework.types import pytree

Log = Callable[[dict], None]


@dataclass(frozen=True)
class Training:
    """How fast, how long and on how much.

    `steps` at most, a validation every `round` steps, stopping after `patience` rounds without a better one;
    batches of up to `batch` subjects; scans kept in memory up to `cache_bytes`.
    """

    learning_rate: float
    weight_decay: float
    dropout: float
    target_weights: Sequence[float] | None
    batch: int
    steps: int
    round: int
    patience: int
    warmup: int
    clip: float
    cache_bytes: int
    checkpoint_seconds: float

    def __post_init__(self):
        for name in ("batch", "steps", "round", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"optimizer.{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"optimizer.dropout is {self.dropout}; expected 0 or more and below 1")
        if self.clip <= 0:
            raise UserError(f"optimizer.clip is {self.clip}; expected a gradient norm above 0")

    def dynamic(self, targets: int) -> Dynamic:
        """The arrays of one member. Raises UserError where target_weights do not match the targets."""
        weights = self.target_weights or [1.0] * targets
        if len(weights) != targets:
            raise UserError(f"optimizer.target_weights has {len(weights)} numbers; expected one a target: {targets}")
        numbers = (self.learning_rate, self.weight_decay, self.dropout, list(weights))
        return Dynamic(*(jnp.asarray(number, jnp.float32) for number in numbers))


@pytree
class Progress:
    """All that a run needs to go on: the members, the best parameters of each for each target so far, and for how
    many rounds no target of a member has got better.
    """

    members: Member
    best: PyTree
    best_loss: Float[Array, "m k"]
    waited: Int[Array, " m"]


def train(
    program: Program,
    training: Training,
    loader: Loader,
    splits: Sequence[Split],
    dynamics: Dynamic,
    statistics: PyTree,
    keys: Key[Array, " m"],
    folder: Path | None = None,
    log: Log = lambda row: None,
) -> tuple[PyTree, Cost]:
    """Fit one member a split; its best parameters for each target by validation loss (leading axes m and k).

    Targets overfit at different times, so each keeps the parameters of its own best round.

    With a folder the run is checkpointed there and goes on from its last checkpoint. Raises UserError where
    a loss is no number (the last healthy checkpoint stays), or a split holds no answer to learn from or judge by.
    """
    meter = Meter()
    _answerable(loader, splits)
    feed = Feed(loader, splits, keys, training.batch, training.round)
    checkpoints = Checkpoints(folder) if folder else None
    progress, done = _start(program, keys, dynamics.target_weights.shape[1], checkpoints)
    advance, losses = jax.jit(program.advance, donate_argnums=0), jax.jit(program.losses)
    validates = any(split.validation.any() for split in splits)
    rounds = -(-training.steps // training.round)
    chunks = feed.training(done * training.round)
    saved = time.perf_counter()
    active = progress.waited < training.patience
    try:
        for number in range(done, rounds):
            if not active.any():
                break
            members, loss = progress.members, []
            for _ in range(training.round // feed.chunk):
                batches = next(chunks)
                members, part = meter.time(advance, members, active, statistics, dynamics, batches)
                loss.append(np.asarray(part))
            train_loss = np.concatenate(loss).mean(0)
            validation = _validate(losses, members.params, statistics, dynamics, feed) if validates else None
            if not (np.isfinite(train_loss).all() and (validation is None or np.isfinite(validation).all())):
                raise UserError(
                    f"the loss is no number any more by step {(number + 1) * training.round}; "
                    "lower optimizer.learning_rate"
                )
            progress = _judge(progress, members, validation, active)
            _report(log, number, rounds, training.round, active, train_loss, validation, meter)
            active = progress.waited < training.patience
            over = number + 1 == rounds or not active.any()
            if checkpoints and (over or time.perf_counter() - saved > training.checkpoint_seconds):
                checkpoints.save(number + 1, progress)
                saved = time.perf_counter()
    finally:
        chunks.close()
        if checkpoints:
            checkpoints.close()
    return progress.best, meter.cost(int(np.max(progress.members.step)), len(splits))


def _answerable(loader: Loader, splits: Sequence[Split]) -> None:
    examples = loader.examples
    taught, asked = (
        np.any([truth.observed.any(1) for truth in questions.truth.values()], axis=0)
        for questions in (examples.taught, examples.asked)
    )
    for split in splits:
        if not taught[split.train].any():
            raise UserError("no training subject has an observed target to learn from; choose other targets")
        if split.validation.any() and not asked[split.validation].any():
            raise UserError(
                f"none of {split.validation.sum()} validation subjects has an observed target to judge by; "
                "raise split.validation, or train without: split.validation=0"
            )


def _start(
    program: Program, keys: Key[Array, " m"], targets: int, checkpoints: Checkpoints | None
) -> tuple[Progress, int]:
    members, _ = program.initial(keys)
    count = len(keys)
    best_loss = jnp.full((count, targets), jnp.inf)
    progress = Progress(members, _for_each(members.params, targets), best_loss, jnp.zeros(count, int))
    if checkpoints and (found := checkpoints.latest(progress)):
        return found[1], found[0]
    return progress, 0


def _for_each(params: PyTree, targets: int) -> PyTree:
    """A copy for each target (m, k, ...), because the step overwrites the members in place."""
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], targets, axis=1), params)


def _validate(
    losses: Callable, params: PyTree, statistics: PyTree, dynamics: Dynamic, feed: Feed
) -> Float[Array, "m k"]:
    sums, counts = zip(*(losses(params, statistics, dynamics, batch) for batch in feed.validation()), strict=True)
    return sum(sums) / jnp.maximum(sum(counts), 1)


def _judge(progress: Progress, members: Member, validation: Array | None, active: Bool[Array, " m"]) -> Progress:
    """Keep what is the best so far; without validation that is the latest."""
    latest = _for_each(members.params, progress.best_loss.shape[1])
    if validation is None:
        return Progress(members, latest, progress.best_loss, progress.waited)
    better = active[:, None] & (validation < progress.best_loss)
    best = jax.tree.map(
        lambda new, old: jnp.where(better.reshape(*better.shape, *[1] * (new.ndim - 2)), new, old),
        latest,
        progress.best,
    )
    waited = jnp.where(better.any(1), 0, progress.waited + active)
    return Progress(members, best, jnp.where(better, validation, progress.best_loss), waited)


def _report(
    log: Log,
    number: int,
    rounds: int,
    round: int,
    active: Array,
    train_loss: np.ndarray,
    validation: Array | None,
    meter: Meter,
) -> None:
    judged = np.full(len(train_loss), np.nan) if validation is None else np.asarray(validation).sum(1)
    for member in np.flatnonzero(np.asarray(active)):
        log(
            {
                "member": int(member),
                "step": (number + 1) * round,
                "of": rounds * round,
                "train": float(train_loss[member]),
                "validation": float(judged[member]),
                "seconds": float(np.round(meter.elapsed, 3)),
            }
        )
