"""The compiled step: one batch in, one update of every member out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.data.batch import Batch
from framework.nn.layers import Statistic
from framework.nn.model import Model
from framework.train.optimizer import Dynamic, move, rate, transform
from framework.types import Classes, Query, Scans, Values, Visits, pytree


@pytree
class Member:
    """All that training changes in one model, and the key its randomness comes from."""

    params: PyTree
    momenta: PyTree
    step: Int[Array, "..."]
    key: Key[Array, "..."]


@dataclass(frozen=True)
class Program:
    """The pure functions of one network, each over a leading axis of members.

    `build(rngs)` makes the network for `targets`; `augment(scans, key)` varies training scans, None leaves them;
    `warmup` and `steps` are the length of the schedule, `clip` the largest gradient norm.
    """

    build: Callable[[nnx.Rngs], Model]
    targets: tuple[str, ...]
    augment: Callable[[Scans, Key[Array, ""]], Scans] | None
    clip: float
    warmup: int
    steps: int

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self.build(nnx.Rngs(0))), nnx.Param, Statistic)[0]

    def initial(self, keys: Key[Array, " m"]) -> tuple[Member, PyTree]:
        """Fresh members, and their statistics (to be fitted) as a state of the same shape."""

        def one(key: Key[Array, ""]) -> tuple[Member, PyTree]:
            start, train = jax.random.split(key)
            _, params, statistics = nnx.split(self.build(nnx.Rngs(start)), nnx.Param, Statistic)
            return Member(params, transform(self.clip).init(params), jnp.zeros((), int), train), statistics

        return jax.jit(jax.vmap(one))(keys)

    def advance(
        self, members: Member, active: Bool[Array, " m"], statistics: PyTree, dynamics: Dynamic, batches: Batch
    ) -> tuple[Member, Float[Array, "steps m"]]:
        """One step of each active member for each batch of the leading axis; batches are (steps, members, ...)."""
        step = jax.vmap(partial(_step, self))

        def body(members: Member, batch: Batch) -> tuple[Member, Array]:
            return step(members, active, statistics, dynamics, batch)

        if batches.weight.shape[0] == 1:  # a round of scans would not fit in memory
            members, loss = body(members, jax.tree.map(lambda x: x[0], batches))
            return members, loss[None]
        return jax.lax.scan(body, members, batches)

    def losses(self, params: PyTree, statistics: PyTree, dynamics: Dynamic, batch: Batch) -> tuple[Array, Array]:
        """Summed loss and count of each target, without dropout: (members, targets) each."""

        def one(params: PyTree, statistics: PyTree, dynamic: Dynamic, batch: Batch) -> tuple[Array, Array]:
            model = nnx.merge(self.graph, params, statistics)
            raw = model(batch.visits, batch.query)
            return model.loss(raw, batch.truth, batch.weight, dynamic.target_weights)

        return jax.vmap(one)(params, statistics, dynamics, batch)

    def forecast(self, params: PyTree, statistics: PyTree, visits: Visits, query: Query) -> dict[str, Classes | Values]:
        """The forecast of one member, each target by its own parameters (leading axis k)."""
        told = {}
        for place, name in enumerate(self.targets):
            own = jax.tree.map(itemgetter(place), params)
            model = nnx.merge(self.graph, own, statistics)
            told[name] = model.forecast(model(visits, query))[name]
        return told


def _step(
    program: Program, member: Member, active: Bool[Array, ""], statistics: PyTree, dynamic: Dynamic, batch: Batch
) -> tuple[Member, Float[Array, ""]]:
    key, vary = jax.random.split(jax.random.fold_in(member.key, member.step))
    visits = batch.visits if program.augment is None else _augmented(batch.visits, program.augment, vary)

    def objective(params: PyTree) -> Float[Array, ""]:
        model = nnx.merge(program.graph, params, statistics, copy=True)
        raw = model(visits, batch.query, key, dynamic.dropout)
        sums, counts = model.loss(raw, batch.truth, batch.weight, dynamic.target_weights)
        return (sums / jnp.maximum(counts, 1)).sum()

    loss, gradients = jax.value_and_grad(objective)(member.params)
    direction, momenta = transform(program.clip).update(gradients, member.momenta)
    speed = rate(dynamic, member.step, program.warmup, program.steps)
    params = move(member.params, direction, speed, dynamic.weight_decay)
    moved = (params, momenta, member.step + 1)
    params, momenta, step = jax.tree.map(
        lambda new, old: jnp.where(active, new, old), moved, (member.params, member.momenta, member.step)
    )
    return Member(params, momenta, step, member.key), loss


def _augmented(visits: Visits, augment: Callable, key: Key[Array, ""]) -> Visits:
    """Every modality varied with the same key, so that the scans of a subject move together."""
    return replace(visits, scans={name: augment(scans, key) for name, scans in visits.scans.items()})
