"""The compiled step: one batch in, one update of every member out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.data.batches.batch import Drawn, Tables
from framework.nn.layers import Statistic
from framework.nn.model import Model
from framework.train.cost.flops import bytes_made
from framework.train.gradients import Accumulated, Whole
from framework.train.memory import MemoryOptions
from framework.train.optimizer import AdamWUpdate, TracedHyperparameters, averaged
from framework.types import Answer, Query, Scans, Visits, pytree


@pytree
class Member:
    """All that training changes in one model, and the key its randomness comes from; `average` is None without one."""

    params: PyTree
    momenta: PyTree
    average: PyTree
    step: Int[Array, "..."]
    key: Key[Array, "..."]

    @property
    def judged(self) -> PyTree:
        """The parameters that validate and forecast."""
        return self.params if self.average is None else self.average


@dataclass(frozen=True)
class Program:
    """The pure functions of one network, each over a leading axis of members.

    `build(rngs)` makes the network for `targets`; `augment(scans, key, place)` varies the training
    scans of modality number `place`, None leaves them; `average` is the decay of the parameters' moving average,
    None for none.
    """

    build: Callable[[nnx.Rngs], Model]
    targets: tuple[str, ...]
    augment: Callable[[Scans, Key[Array, ""], int], Scans] | None
    optimizer: AdamWUpdate
    gradients: Whole | Accumulated
    memory: MemoryOptions
    average: float | None

    def __post_init__(self):
        for name in ("advance", "losses", "forecast"):  # one function each, so that what is compiled of it serves again
            vars(self)[name] = getattr(self, name)

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self.build(nnx.Rngs(0))), nnx.Param, Statistic)[0]

    def model(self, params: PyTree, statistics: PyTree) -> Model:
        """The network of one member."""
        return self.memory(nnx.merge(self.graph, params, statistics, copy=True))

    def initial(self, keys: Key[Array, " m"]) -> tuple[Member, PyTree]:
        """Fresh members, and their statistics (to be fitted) as a state of the same shape."""
        return self._fresh(keys)

    def statistics(self, keys: Key[Array, " m"]) -> PyTree:
        """The shapes of the members' statistics, without making them."""
        return jax.eval_shape(self._fresh, keys)[1]

    @cached_property
    def _fresh(self) -> Callable[[Key[Array, " m"]], tuple[Member, PyTree]]:
        # random draws take five times as long to compile well as to compile, and run once
        return jax.jit(jax.vmap(self._one), compiler_options={"xla_backend_optimization_level": 0})

    def bytes_each(self, dynamic: TracedHyperparameters, tables: Tables, batch: Drawn) -> int:
        """Return an upper bound of one member's memory for a step: all values that the step makes, none freed."""
        members, statistics = jax.eval_shape(self._fresh, jax.random.split(jax.random.key(0), 1))
        dynamics, batches = jax.tree.map(lambda x: np.asarray(x)[None], (dynamic, batch))
        batches = jax.tree.map(lambda x: x[None], batches)
        return bytes_made(self.advance, members, np.ones(1, bool), statistics, dynamics, tables, batches)

    def _one(self, key: Key[Array, ""]) -> tuple[Member, PyTree]:
        start, train = jax.random.split(key)
        _, params, statistics = nnx.split(self.build(nnx.Rngs(start)), nnx.Param, Statistic)
        average = None if self.average is None else params
        return Member(params, self.optimizer.initial(params), average, jnp.zeros((), int), train), statistics

    def advance(
        self,
        members: Member,
        active: Bool[Array, " m"],
        statistics: PyTree,
        dynamics: TracedHyperparameters,
        tables: Tables,
        batches: Drawn,
    ) -> tuple[Member, Float[Array, "steps m"]]:
        """One step of each active member for each batch of the leading axis; batches are (steps, members, ...).

        A step whose loss or gradient is not finite changes nothing, and its loss is NaN.
        """
        step = jax.vmap(partial(_step, self), in_axes=(0, 0, 0, 0, None, 0))

        def body(members: Member, batch: Drawn) -> tuple[Member, Array]:
            return step(members, active, statistics, dynamics, tables, batch)

        if batches.weight.shape[0] == 1:  # a round of scans would not fit in memory
            members, loss = body(members, jax.tree.map(lambda x: x[0], batches))
            return members, loss[None]
        return jax.lax.scan(body, members, batches)

    def losses(
        self, params: PyTree, statistics: PyTree, dynamics: TracedHyperparameters, tables: Tables, drawn: Drawn
    ) -> tuple[Array, Array]:
        """Summed loss and count of each target, without dropout: (members, targets) each."""

        def one(
            params: PyTree, statistics: PyTree, dynamic: TracedHyperparameters, drawn: Drawn
        ) -> tuple[Array, Array]:
            model, batch = self.model(params, statistics), drawn.read(tables, tables.eval_queries)
            raw = model(batch.seen(tables), batch.query)
            return model.loss(raw, batch.truth, batch.weight, dynamic.target_weights)

        return jax.vmap(one)(params, statistics, dynamics, drawn)

    def forecast(self, params: PyTree, statistics: PyTree, visits: Visits, query: Query) -> dict[str, Answer]:
        """The forecast of one member, each target by its own parameters (leading axis k)."""
        forecasts = {}
        for place, name in enumerate(self.targets):
            model = self.model(jax.tree.map(itemgetter(place), params), statistics)
            forecasts[name] = model.forecast(model(visits, query))[name]
        return forecasts


def _step(
    program: Program,
    member: Member,
    active: Bool[Array, ""],
    statistics: PyTree,
    dynamic: TracedHyperparameters,
    tables: Tables,
    drawn: Drawn,
) -> tuple[Member, Float[Array, ""]]:
    counts = jnp.maximum(drawn.answers(tables), 1)

    def loss_of(params: PyTree, part: Drawn, key: Key[Array, ""]) -> Float[Array, ""]:
        drop, vary = jax.random.split(key)
        batch = part.read(tables, tables.train_queries)
        visits = batch.seen(tables)
        if program.augment is not None:
            visits = _augmented(visits, program.augment, vary)
        model = program.model(params, statistics)
        raw = model(visits, batch.query, drop, dynamic.dropout)
        return (model.loss(raw, batch.truth, batch.weight, dynamic.target_weights)[0] / counts).sum()

    key = jax.random.fold_in(member.key, member.step)
    loss, gradients = program.gradients(loss_of, member.params, drawn, key)
    params, momenta = program.optimizer.update(gradients, member.momenta, member.params, member.step, dynamic)
    average = member.average
    if program.average is not None:
        average = averaged(average, params, member.step, program.average)
    healthy = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients))
    new = Member(params, momenta, average, member.step + 1, member.key)
    kept = jax.tree.map(lambda new, old: jnp.where(active & healthy, new, old), new, member)
    return kept, jnp.where(healthy, loss, jnp.nan)


def _augmented(visits: Visits, augment: Callable, key: Key[Array, ""]) -> Visits:
    """Every modality varied with the same key, so that the scans of a subject move together."""
    ordered = enumerate(sorted(visits.scans.items()))
    return replace(visits, scans={name: augment(scans, key, place) for place, (name, scans) in ordered})
