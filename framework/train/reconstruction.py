"""Encoders trained by reconstructing scans, before anything is forecast."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, PyTree

from framework.configurable import configurable
from framework.data.batches.normalise import scaled
from framework.data.batches.scan_cache import ScanCache
from framework.data.cohort.store import Cohort
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.image.augment.compose import Compose
from framework.nn.encoders.autoencoder import Autoencoder, Decoder
from framework.nn.encoders.base import Encoder
from framework.nn.model import encoded
from framework.train.rounds import Learner, run_rounds
from framework.types import Scans

Log = Callable[[dict], None]


@configurable("optimizer")
@dataclass(frozen=True)
class CosineAdamW:
    """AdamW of gradients clipped to a global norm of `max_grad_norm`; rates warm up, then fall by half a cosine."""

    learning_rate: float
    weight_decay: float
    max_grad_norm: float
    warmup: int

    def over(self, steps: int) -> optax.GradientTransformation:
        """Return the updates of a training of `steps`."""
        peak, last = self.learning_rate, max(steps, self.warmup + 1)
        schedule = optax.warmup_cosine_decay_schedule(peak / max(self.warmup, 1), peak, self.warmup, last, peak / 20)

        def matrices(params: PyTree) -> PyTree:
            return jax.tree.map(lambda x: x.ndim > 1, params)

        decayed = optax.adamw(schedule, weight_decay=self.weight_decay, mask=matrices)
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), decayed)


@configurable("pretraining")
@dataclass(frozen=True)
class Pretraining:
    """Hyperparameters of pretraining: `batch` scans a step, otherwise as for a forecaster.

    `dropout` hides that share of the code's numbers from the decoder. A run that is killed loses at most
    `checkpoint_seconds`, or `checkpoint_steps`.
    """

    optimizer: CosineAdamW
    dropout: float
    batch: int
    steps: int
    eval_every: int
    patience: int
    cache_bytes: int
    checkpoint_seconds: float = 20.0
    checkpoint_steps: int | None = None

    def __post_init__(self):
        for name in ("batch", "steps", "eval_every", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; expected 1 or more")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise UserError(f"training.checkpoint_steps is {self.checkpoint_steps}; expected 1 or more, or null")
        if not 0 <= self.dropout < 1:
            raise UserError(f"training.dropout is {self.dropout}; expected 0 or more and below 1")

    @property
    def adam(self) -> optax.GradientTransformation:
        return self.optimizer.over(self.steps)


class Shelf:
    """The scans of some subjects in one modality, prepared; as many stay in memory as `room` bytes hold."""

    def __init__(self, cohort: Cohort, modality: str, subjects: Bool[np.ndarray, " n"], room: int):
        self._modality, self._read = modality, ScanCache(partial(scaled, cohort), room, replaces=False)
        self.places = np.argwhere(cohort.present[modality] & subjects[:, None])  # (subject, visit)

    def __len__(self) -> int:
        return len(self.places)

    def scan(self, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
        return self._read(self._modality, subject, visit)

    def scans(self) -> Iterator[Float[np.ndarray, "x y z c"]]:
        """All of them, one after the other."""
        return (self.scan(int(subject), int(visit)) for subject, visit in self.places)

    def batch(self, order: Sequence[int] | np.ndarray, size: int) -> Scans:
        """Scans by their number, padded to `size`."""
        some = self.places[np.asarray(order, int)]
        voxels = [self.scan(int(subject), int(visit)) for subject, visit in some]
        pad = size - len(some)
        some = np.concatenate([some, np.zeros((pad, 2), int)])
        stacked = np.stack([*voxels, *[np.zeros_like(voxels[0])] * pad])
        return Scans(stacked, some[:, 0], some[:, 1], np.arange(size) < size - pad)

    def batches(self, size: int, order: np.ndarray | None = None) -> list[np.ndarray]:
        """Numbers of all scans, cut into batches."""
        order = np.arange(len(self)) if order is None else order
        return [order[start : start + size] for start in range(0, len(order), size)]


@dataclass(frozen=True)
class Found:
    """A trained encoder: its parameters, its mean squared error on validation scans and that of the `floor`, which
    answers every scan with the mean of the training scans; None without validation subjects. Voxels are normalised.
    """

    weights: PyTree
    error: float | None
    floor: float | None
    steps: int
    scans: int

    @property
    def facts(self) -> dict:
        """All but the parameters."""
        return {name: getattr(self, name) for name in ("error", "floor", "steps", "scans")}


@configurable("reconstruction")
@dataclass(frozen=True)
class Reconstruction:
    """Encoder and decoder (made by partials, see conf/pretrain.yaml), trained on the scans of training subjects."""

    encoder: Callable[..., Encoder] | None
    augment: Compose | None
    decoder: Callable[..., Decoder]
    training: Pretraining

    def __post_init__(self):
        if self.encoder is None:
            raise UserError("model/encoder=tabular has no image encoder to train; choose another, say autoencoder")

    def fit(
        self,
        cohort: Cohort,
        modality: str,
        split: Split,
        key: Key[Array, ""],
        log: Log = lambda row: None,
        folder: Path | None = None,
    ) -> Found:
        """Train one modality's encoder until the validation scans are reconstructed no better.

        With a folder it is checkpointed there, and the same call goes on from the last checkpoint.
        """
        made = cohort.schema.modality(modality)
        grid, room = encoded((*made.shape, made.channels)), self.training.cache_bytes
        shelf, judge = (Shelf(cohort, modality, some, room) for some in (split.train, split.validation))
        if not len(shelf):
            raise UserError(
                f"no training subject has a {modality} scan; leave it out with data.hidden, or choose another split"
            )
        program = _Program(partial(Autoencoder, self.encoder, self.decoder, grid=grid), self, grid)
        try:
            return _train(program, shelf, judge, key, log, folder)
        except UserError as error:
            raise UserError(f"{modality}: {error}") from None


@dataclass(frozen=True)
class _Program:
    """The pure functions of one autoencoder."""

    build: Any
    recipe: Reconstruction
    grid: tuple[int, ...]

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self.build(rngs=nnx.Rngs(0))))[0]

    def initial(self, key: Key[Array, ""]) -> tuple[PyTree, PyTree]:
        params = nnx.split(self.build(rngs=nnx.Rngs(key)))[1]
        return params, self.recipe.training.adam.init(params)

    def errors(
        self, params: PyTree, mean: Float[Array, "*space c"], scans: Scans, key: Key[Array, ""] | None
    ) -> tuple[Array, Array]:
        """Error and cost of the code, summed over the scans that are there."""
        voxels = jnp.asarray(scans.voxels).reshape(-1, *self.grid)
        error, cost = nnx.merge(self.graph, params)(voxels, mean, key, self.recipe.training.dropout)
        valid = jnp.asarray(scans.valid)
        return jnp.where(valid, error, 0).sum(), jnp.where(valid, cost, 0).sum()

    def judge(self, params: PyTree, mean: Float[Array, "*space c"], scans: Scans) -> Float[Array, ""]:
        """The summed error of each scan's expected code."""
        return self.errors(params, mean, scans, None)[0]

    def step(
        self, params: PyTree, momenta: PyTree, mean: Float[Array, "*space c"], scans: Scans, key: Key[Array, ""]
    ) -> tuple[PyTree, PyTree, Float[Array, ""]]:
        vary, draw = jax.random.split(key)
        scans = scans if self.recipe.augment is None else self.recipe.augment(scans, vary)

        def objective(params: PyTree) -> Float[Array, ""]:
            return sum(self.errors(params, mean, scans, draw)) / scans.valid.sum()

        loss, slope = jax.value_and_grad(objective)(params)
        change, momenta = self.recipe.training.adam.update(slope, momenta, params)
        return optax.apply_updates(params, change), momenta, loss


def _train(program: _Program, shelf: Shelf, judge: Shelf, key: Key[Array, ""], log: Log, folder: Path | None) -> Found:
    learner = _Learner(program, shelf, judge, key, log)
    how = program.recipe.training
    steps = run_rounds(learner, folder, how.checkpoint_seconds, how.checkpoint_steps)
    weights = nnx.state(nnx.merge(program.graph, learner.best).encoder)
    if not len(judge):
        return Found(weights, None, None, steps, len(shelf))
    floor = np.mean([np.square(scan.reshape(program.grid) - learner.mean).mean() for scan in judge.scans()])
    return Found(weights, learner.lowest, float(floor), steps, len(shelf))


class _Learner(Learner):
    """An autoencoder, judged by the error of the validation scans."""

    def __init__(self, program: _Program, shelf: Shelf, judge: Shelf, key: Key[Array, ""], log: Log):
        how = program.recipe.training
        self.total, self.round, self._patience = how.steps, how.eval_every, how.patience
        self._shelf, self._judge, self._log, self._size = shelf, judge, log, min(how.batch, len(shelf))
        begin, order, self._draws = jax.random.split(key, 3)
        self._params, self._momenta = jax.jit(program.initial)(begin)
        self._step, self._error = jax.jit(program.step, donate_argnums=(0, 1)), jax.jit(program.judge)
        self.mean = jnp.asarray(_mean(shelf)).reshape(program.grid)
        self.best, self.lowest, self._waited = jax.tree.map(jnp.copy, self._params), np.inf, 0  # a step overwrites
        self._losses: list[Array | np.ndarray] = []  # of the round under way
        self._batches = _endless(shelf, self._size, order)

    @property
    def active(self) -> bool:
        return self._waited < self._patience

    @property
    def state(self) -> PyTree:
        held = np.zeros(self.round, np.float32)
        held[: len(self._losses)] = [float(loss) for loss in self._losses]
        arrays = self._params, self._momenta, self.best
        return arrays, (np.array(self.lowest, np.float64), np.array(self._waited), held)

    def restore(self, step: int, state: PyTree) -> None:
        (self._params, self._momenta, self.best), (lowest, waited, held) = state
        self.lowest, self._waited, self._losses = float(lowest), int(waited), [*held[: step % self.round]]
        self._batches = islice(self._batches, step, None)

    def advance(self, step: int) -> int:
        scans, key = self._shelf.batch(next(self._batches), self._size), jax.random.fold_in(self._draws, step + 1)
        self._params, self._momenta, loss = self._step(self._params, self._momenta, self.mean, scans, key)
        self._losses.append(loss)
        return step + 1

    def judge(self, step: int) -> None:
        judge = self._judge
        train, self._losses = float(np.mean(self._losses)), []
        shown = (judge.batch(some, self._size) for some in judge.batches(self._size))
        validation = sum(float(self._error(self._params, self.mean, scans)) for scans in shown) / max(len(judge), 1)
        if not np.isfinite(train + validation):
            raise UserError(f"the loss is not finite by step {step}; fix: lower training.optimizer.learning_rate")
        judged = validation if len(judge) else np.nan
        self._log({"member": 0, "step": step, "of": self.total, "train": train, "validation": judged})
        if validation < self.lowest or not len(judge):
            self.best, self.lowest, self._waited = jax.tree.map(jnp.copy, self._params), validation, 0
        else:
            self._waited += 1


def _endless(shelf: Shelf, size: int, key: Key[Array, ""]) -> Iterator[np.ndarray]:
    """Full batches in random order, epoch after epoch; what is left over of an epoch waits for another."""
    seed, epoch = [int(word) for word in np.asarray(jax.random.key_data(key))], 0
    while True:
        order = np.random.default_rng([*seed, epoch]).permutation(len(shelf))
        yield from (some for some in shelf.batches(size, order) if len(some) == size)
        epoch += 1


def _mean(shelf: Shelf) -> Float[np.ndarray, "x y z c"]:
    """The mean scan, from which the decoder draws what is particular to each."""
    total = sum(scan.astype(np.float64) for scan in shelf.scans())
    return np.asarray(total / len(shelf), np.float32)
