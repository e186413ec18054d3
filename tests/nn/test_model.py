"""The network: what goes in where, what a forecast starts from, and what the loss may see."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import norm

from framework.data.batches.batch import Loader
from framework.errors import UserError
from framework.nn.encoders.base import Encoder
from framework.nn.encoders.plain import Plain
from framework.nn.model import Model
from framework.nn.outputs import OrdinalOutput
from framework.types import LEVELS, Categorical, Scans
from tests.cohorts import examples
from tests.contracts.recipes import config, instantiate, network


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c")


@pytest.fixture(scope="module")
def batch(made):
    loader = Loader(made)
    return loader.batch([0, 3, 5], loader.size(4, range(12)), made.train_queries)


class Mean(Encoder):
    """An encoder whose answer is known: the mean of the scan, and 1."""

    def __init__(self, *, grid, rngs):
        self.out_features = 2

    def __call__(self, voxels):
        mean = voxels.mean((1, 2, 3, 4))
        return jnp.stack([mean, jnp.ones_like(mean)], -1)


@pytest.fixture(scope="module")
def model(made):
    recipe = instantiate(config("model=gru", "model.head.cell.features=4").model.head, _convert_="all")
    model = nnx.jit(lambda: Model(made.layout, network(Mean, recipe), rngs=nnx.Rngs(0)))()
    graph, state = nnx.split(model)
    rng = np.random.default_rng(0)
    built = nnx.merge(graph, jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), state))
    built.target_scale[...], built.change_scale[...] = jnp.array([4.0, 1.0, 9.0]), jnp.array([2.0, 1.0, 5.0])
    built.target_mean[...] = jnp.array([20.0, 1.0, 40.0])
    return built


with_ = dataclasses.replace


def test_tokens_hold_each_scan_at_its_row_and_visit(model, batch):
    tokens = jax.jit(model.tokens)(batch.visits)
    for place, name in enumerate(model.encoders):
        column = tokens.x.shape[-1] - 2 * (2 - place)
        scans = batch.visits.scans[name]
        expected = np.zeros((*batch.visits.valid.shape, 2))
        for voxels, row, visit in zip(
            scans.voxels[scans.valid], scans.row[scans.valid], scans.visit[scans.valid], strict=True
        ):
            expected[row, visit] = voxels.mean(), 1
        np.testing.assert_allclose(tokens.x[..., column : column + 2], expected, atol=1e-5)
        np.testing.assert_array_equal(tokens.observed[..., column], expected[..., 1] > 0)


class Shape(Encoder):
    """An encoder that says on what grid it was made, and on what it is used."""

    def __init__(self, *, grid, rngs):
        self.grid, self.out_features = grid, len(grid) + 1

    def __call__(self, voxels):
        assert voxels.shape[1:] == self.grid
        told = jnp.array([len(self.grid), *self.grid], jnp.float32)
        return jnp.broadcast_to(told, (voxels.shape[0], len(told)))


def reshaped(visits, grid):
    """The same visits, their scans on another grid."""
    size = {name: (len(scans.row), *grid) for name, scans in visits.scans.items()}
    scans = {name: with_(s, voxels=np.ones(size[name], np.float32)) for name, s in visits.scans.items()}
    return with_(visits, scans=scans)


@pytest.mark.parametrize(
    ("grid", "seen"),
    [
        ((6, 5, 1, 2), (6, 5, 2)),
        ((1, 5, 4, 1), (5, 4, 1)),
        ((6, 5, 2, 1), (6, 5, 2, 1)),
        ((1, 1, 1, 7), (1, 1, 1, 7)),
    ],
)
def test_a_modality_one_slice_thick_is_encoded_in_two_dimensions(made, batch, grid, seen):
    recipe = instantiate(config("model=gru", "model.head.cell.features=4").model.head, _convert_="all")
    layout = with_(made.layout, modalities=("t1",), grids=(grid,))
    built = nnx.jit(lambda: Model(layout, network(Shape, recipe), rngs=nnx.Rngs(0)))()
    tokens = jax.jit(built.tokens)(reshaped(batch.visits, grid))
    told = np.asarray(tokens.x)[np.asarray(tokens.observed)[..., -1], -len(seen) - 1 :]
    assert len(told)
    assert (told == [len(seen), *seen]).all()


def test_scans_on_another_grid_and_grids_too_small_are_told(made, batch, model):
    with pytest.raises(UserError, match=r"flair scans have the grid .*\(8, 8, 8, 2\).* made for \(6, 6, 4, 1\)"):
        model.tokens(reshaped(batch.visits, (8, 8, 8, 2)))
    with pytest.raises(UserError, match="t1: this encoder needs scans of at least 16 voxels"):
        Model(made.layout, network(partial(Plain, [4] * 4, 2, 3), Mean), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["mean", "attention"])
def test_fused_there_is_one_embedding_a_visit(made, batch, name):
    fusion = instantiate(config("model=deep", f"model/fusion={name}").model.fusion, _convert_="all")
    recipe = instantiate(config("model=gru", "model.head.cell.features=4").model.head, _convert_="all")
    built = nnx.jit(lambda: Model(made.layout, network(Mean, recipe, fusion=fusion), rngs=nnx.Rngs(0)))()
    tokens = jax.jit(built.tokens)(batch.visits)
    present = np.zeros(batch.visits.valid.shape, bool)
    for scans in batch.visits.scans.values():
        present[scans.row[scans.valid], scans.visit[scans.valid]] = True
    np.testing.assert_array_equal(tokens.observed[..., -32:], np.broadcast_to(present[..., None], (*present.shape, 32)))
    assert tokens.x.shape[-1] == built.tabular.out_features + built.static.out_features + 32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(built)(batch.visits, batch.query)))


def test_tokens_are_empty_where_there_is_no_visit(model, batch):
    tokens = jax.jit(model.tokens)(batch.visits)
    assert not tokens.observed[~batch.visits.valid].any()
    assert not np.asarray(tokens.x)[~np.asarray(tokens.observed)].any()


def test_scans_of_padding_never_matter(model, batch):
    def loud(scans: Scans) -> Scans:
        return with_(scans, voxels=np.where(scans.valid[:, None, None, None, None], scans.voxels, np.float32(np.nan)))

    noisy = with_(batch.visits, scans={name: loud(scans) for name, scans in batch.visits.scans.items()})
    for one, other in zip(
        *(jax.tree.leaves(jax.jit(model)(visits, batch.query)) for visits in (noisy, batch.visits)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_forecast_starts_from_the_last_observation_else_from_the_mean(model, batch):
    raw = jax.jit(model)(batch.visits, batch.query)
    told = model.forecast(raw)
    visits, query = batch.visits, batch.query
    for target in model.layout.targets:
        if isinstance(target, Categorical):
            np.testing.assert_array_equal(told[target.name].probs, jax.nn.softmax(raw[target.name][0]))
            continue
        place = model.layout.targets.index(target)
        for i, j in np.argwhere(query.valid):
            seen = [v for v in range(query.origin[i, j] + 1) if visits.observed[i, v, target.index]]
            known = seen and target.seen
            base = visits.values[i, seen[-1], target.index] if known else model.target_mean[...][place]
            unit = (model.change_scale if known else model.target_scale)[...][place]
            np.testing.assert_allclose(
                told[target.name].quantiles[i, j], base + unit * raw[target.name][0][i, j], rtol=1e-5
            )


def test_untrained_it_says_the_last_visit_give_or_take_the_usual_change(made, batch):
    recipe = instantiate(config("model=gru").model.head, _convert_="all")
    fresh = nnx.jit(lambda: Model(made.layout, network(None, recipe), rngs=nnx.Rngs(0)))()
    told = jax.jit(lambda visits, query: fresh.forecast(fresh(visits, query)))(batch.visits, batch.query)
    np.testing.assert_allclose(told["stage"].probs, 1 / 3, rtol=1e-5)
    middle = np.asarray(told["score"].quantiles[..., LEVELS.index(0.5)])
    i, j = np.argwhere(batch.visits.observed[:, 0, 0][:, None] & (batch.query.origin == 0) & batch.query.valid)[0]
    np.testing.assert_allclose(middle[i, j], batch.visits.values[i, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(told["volume"].quantiles[0, 0], norm.ppf(LEVELS), atol=1e-5)


def test_time_counts_in_its_unit(made, batch):
    """A network told of months says of months what one told of years says of years."""
    recipe = instantiate(config("model=gru").model.head, _convert_="all")
    years, months = (
        nnx.jit(partial(Model, made.layout, network(None, recipe, time_unit_years=unit)))(rngs=nnx.Rngs(0))
        for unit in (1.0, 1 / 12)
    )
    for one in (years, months):
        nnx.update(one, jax.tree.map(lambda x: x + 0.1, nnx.state(one)))
    visits, query = with_(batch.visits, times=batch.visits.times / 12), with_(batch.query, time=batch.query.time / 12)
    years, months = jax.jit(years), jax.jit(months)
    told, again = years(batch.visits, batch.query), months(visits, query)
    for name in told:
        np.testing.assert_allclose(told[name][0], again[name][0], rtol=1e-4, atol=1e-5)
    assert np.abs(told["score"][0] - years(visits, query)["score"][0]).max() > 1e-3


def losses(model, batch):
    return _losses(model)(batch)


@cache
def _losses(model):
    """Compiled once for all tests."""
    return jax.jit(lambda batch: model.loss(model(batch.visits, batch.query), batch.truth, batch.weight, jnp.ones(3)))


def test_the_loss_ignores_what_was_not_observed(model, batch):
    junk = {
        name: with_(truth, value=np.where(truth.observed, truth.value, 7e8).astype(np.float32))
        for name, truth in batch.truth.items()
    }
    for one, other in zip(losses(model, with_(batch, truth=junk)), losses(model, batch), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loss_ignores_rows_that_weigh_nothing(model, batch):
    """Answers, histories and questions of a zero-weight row may be anything, even NaN."""
    light = with_(batch, weight=np.array([1, 0, 1, 0], np.float32))
    spoilt = jax.tree.map(np.copy, light)
    for part in (spoilt.visits.values, spoilt.query.time, *(truth.value for truth in spoilt.truth.values())):
        part[1] = np.nan
    spoilt = jax.tree.map(jnp.asarray, spoilt)
    for one, other in zip(losses(model, spoilt), losses(model, light), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loss_is_a_sum_over_observed_answers_with_its_count(model, batch):
    raw = jax.jit(model)(batch.visits, batch.query)
    sums, counts = losses(model, batch)
    for place, target in enumerate(model.layout.targets):
        truth, share = batch.truth[target.name], batch.truth[target.name].observed * batch.weight[:, None]
        each = np.asarray(model.outputs[target.name].loss(raw[target.name][0], truth, *raw[target.name][1:]))
        assert counts[place] == share.sum() > 0
        assert sums[place] == pytest.approx(each[share > 0].sum(), rel=1e-5)
    weighted, _ = model.loss(raw, batch.truth, batch.weight, jnp.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(weighted, sums * np.array([1, 2, 0]), rtol=1e-6)


def test_dropout_needs_a_key_and_follows_it(model, batch):
    ask = jax.jit(model)

    def told(key, rate):
        return np.asarray(ask(batch.visits, batch.query, key, rate)["score"][0])

    plain, key = told(None, 0.5), jax.random.key(0)
    np.testing.assert_array_equal(told(key, 0.0), plain)
    np.testing.assert_array_equal(told(key, 0.5), told(key, 0.5))
    assert (told(key, 0.5) != plain).any()
    assert (told(key, 0.5) != told(jax.random.key(1), 0.5)).any()


@pytest.mark.parametrize(("share", "spared"), [(0.0, True), (1.0, False)])
def test_tokens_are_dropped_at_their_share_of_the_rate(model, batch, share, spared):
    """Seen where the hidden layer says nothing, and only the last token reaches the outputs."""
    straight = nnx.clone(model)
    straight.token_dropout = share
    straight.hidden.weight[...], straight.hidden.bias[...] = jnp.zeros_like(model.hidden.weight[...]), jnp.zeros(4)
    ask = jax.jit(straight)
    plain, dropped = (ask(batch.visits, batch.query, key, 0.5)["score"][0] for key in (None, jax.random.key(0)))
    assert np.array_equal(plain, dropped) == spared


def test_taken_apart_and_put_together_it_is_the_same_network(made, batch):
    recipe = instantiate(config("model=gru", "model.head.cell.features=4").model.head, _convert_="all")
    fresh = nnx.jit(lambda: Model(made.layout, network(Mean, recipe), rngs=nnx.Rngs(0)))()
    merged = nnx.merge(*nnx.split(fresh))
    np.testing.assert_array_equal(*(jax.jit(one.tokens)(batch.visits).x for one in (merged, fresh)))


def gradients(model, batch, truth=None):
    slope, params = _gradients(model)
    return slope(params, batch, batch.truth if truth is None else truth)


@cache
def _gradients(model):
    """Compiled once for all tests."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, batch, truth):
        built = nnx.merge(graph, params, rest)
        sums, _ = built.loss(built(batch.visits, batch.query), truth, batch.weight, jnp.ones(3))
        return sums.sum()

    return jax.jit(jax.grad(loss)), params


def test_compiled_or_not_it_says_the_same(model, batch):
    compiled, eager = (ask(batch.visits, batch.query) for ask in (jax.jit(model), model))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), compiled, eager)


def test_questions_that_are_none_leave_gradients_alone_whatever_time_they_name(model, batch):
    """Before the origin log(1 + years ahead) would be NaN, which no mask behind it takes back."""
    at = np.where(batch.query.valid, batch.query.time, -9).astype(np.float32)
    spoilt = with_(batch, query=with_(batch.query, time=at))
    assert (~batch.query.valid).any()
    for one, other in zip(*(jax.tree.leaves(gradients(model, b)) for b in (spoilt, batch)), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()


def test_a_question_before_its_origin_is_answered_as_of_the_origin(model, batch):
    origin = np.take_along_axis(np.asarray(batch.visits.times), np.asarray(batch.query.origin), 1)
    told = [
        jax.jit(model)(batch.visits, with_(batch.query, time=(origin - years).astype(np.float32))) for years in (0, 4)
    ]
    jax.tree.map(np.testing.assert_array_equal, *told)


def test_a_subject_of_whom_nothing_is_known_gets_finite_answers_and_gradients(model, batch):
    nothing = with_(
        batch.visits,
        observed=np.zeros_like(batch.visits.observed),
        static_observed=np.zeros_like(batch.visits.static_observed),
        scans={name: with_(scans, valid=np.zeros_like(scans.valid)) for name, scans in batch.visits.scans.items()},
    )
    empty = with_(batch, visits=nothing)
    told = model.forecast(jax.jit(model)(nothing, batch.query))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((told, gradients(model, empty))))


def test_a_target_that_training_never_shows_teaches_its_output_nothing(model, batch):
    """So that it stays where it starts: classes equally likely, a value at its last observation."""
    hidden = {name: with_(truth, observed=truth.observed & (name != "stage")) for name, truth in batch.truth.items()}
    slopes = gradients(model, batch, hidden)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slopes["outputs"]["stage"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(slopes["outputs"]["score"]))


def test_ordered_levels_get_cumulative_logits_where_they_are_asked_for(made, batch):
    recipe = instantiate(config("model=gru", "model.head.cell.features=4").model.head, _convert_="all")
    for ordinal in (False, True):
        ordered = (with_(t, ordered=True) if isinstance(t, Categorical) else t for t in made.layout.targets)
        layout = with_(made.layout, targets=tuple(ordered))
        fresh = nnx.jit(partial(Model, layout, network(None, recipe, ordinal=ordinal)))(rngs=nnx.Rngs(0))
        assert isinstance(fresh.outputs["stage"], OrdinalOutput) is ordinal
        ask = jax.jit(lambda visits, query, fresh=fresh: fresh.forecast(fresh(visits, query)))
        probs = ask(batch.visits, batch.query)["stage"].probs
        np.testing.assert_allclose(probs, 1 / 3, rtol=1e-5)
