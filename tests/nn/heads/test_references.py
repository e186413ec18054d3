"""Each head against NumPy loops over one subject's visits, written from the papers, with nothing hoisted or batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hydra.utils import instantiate

from tests.contracts.head_laws import D, series
from tests.contracts.recipes import config

H = 6


def made(name: str, *overrides: str):
    """A small head away from its first parameters."""
    small = "model.head.features" if name in ("mean_pool", "ssm", "transformer") else "model.head.cell.features"
    width = 8 if name == "transformer" else H
    recipe = config("model=deep", f"model/head={name}", f"{small}={width}", *overrides).model.head
    graph, state = nnx.split(nnx.jit(lambda: instantiate(recipe, _convert_="all")(d_in=D, rngs=nnx.Rngs(0)))())
    rng = np.random.default_rng(0)
    return nnx.merge(graph, jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), state))


def holds(head, reference) -> None:
    """`reference(x, m, t, ahead)`: a subject's visits up to the origin, and years from there to the query."""
    sequence, query = series()
    told = np.asarray(jax.jit(head)(sequence, query))
    for i, j in np.ndindex(query.time.shape):
        upto = np.flatnonzero(sequence.valid[i, : query.origin[i, j] + 1])
        x, m, t = (np.asarray(a[i, upto], np.float64) for a in (sequence.x, sequence.observed, sequence.times))
        np.testing.assert_allclose(told[i, j], reference(x, m, t, query.time[i, j] - t[-1]), rtol=1e-5, atol=1e-5)


def of(param) -> np.ndarray:
    return np.asarray(param[...], np.float64)


def dense(layer, *parts) -> np.ndarray:
    return np.concatenate(parts, -1) @ of(layer.weight) + of(layer.bias)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gelu(a):
    return 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))


def normed(a):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)


def gaps(t):
    return np.diff(t, prepend=t[:1])


def fed(x, m, dt) -> list[np.ndarray]:
    """Values where observed, masks, log(1 + dt)."""
    return [x * m, m, np.log1p(np.atleast_1d(dt))]


def out(cell, state, ahead):
    return np.tanh(dense(cell.out, state, [ahead, np.log1p(ahead)]))


def gru(cell, h, *inputs):
    """Cho et al. 2014, Eqs. 5-8."""
    r, z = np.split(sigmoid(dense(cell.gates, *inputs, h)), 2)
    return z * h + (1 - z) * np.tanh(dense(cell.candidate, *inputs, r * h))


def test_gru():
    head = made("gru")

    def reference(x, m, t, ahead):
        h = np.zeros(H)
        for k, dt in enumerate(gaps(t)):
            h = gru(head.cell, h, *fed(x[k], m[k], dt))
        return out(head.cell, h, ahead)

    holds(head, reference)


@pytest.mark.parametrize("name", ["lstm", "t_lstm"])
def test_lstm_and_t_lstm(name):
    """Gers et al. 2000; Baytas et al. 2017: memory's short-term part is discounted by 1 / log(e + dt)."""
    head = made(name)

    def reference(x, m, t, ahead):
        h, c = np.zeros(H), np.zeros(H)
        for k, dt in enumerate(gaps(t)):
            if name == "t_lstm":
                short = np.tanh(dense(head.cell.short, c))
                discounted = short / np.log(np.e + dt)
                long = c - short
                c = long + discounted
            i, f, o, g = np.split(dense(head.cell.gates, *fed(x[k], m[k], dt), h), 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        return out(head.cell, h, ahead)

    holds(head, reference)


def test_gru_d():
    """Che et al. 2018: m the masks, δ the time since each variable was last observed, x' what it was then.

    What is asked is a step at which nothing is seen.
    """
    head = made("gru_d")
    cell = head.cell

    def reference(x, m, t, ahead):
        h, mean = np.zeros(H), of(cell.mean)
        seen, delta, last = np.zeros(D), np.zeros(D), mean.copy()
        nothing = np.zeros(D)
        for value, mask, dt in (*zip(x, m, gaps(t), strict=False), (nothing, nothing, ahead)):
            delta = dt + np.where(seen, 0, delta)  # since the visit before, or since longer
            gamma_x = np.exp(-np.maximum(0, of(cell.input_decay) * delta + of(cell.input_offset)))
            gamma_h = np.exp(-np.maximum(0, dense(cell.state_decay, delta)))
            filled = mask * value + (1 - mask) * (gamma_x * last + (1 - gamma_x) * mean)
            h = gru(cell, gamma_h * h, filled, mask)
            seen, last = mask, np.where(mask, value, last)
        return out(cell, h, ahead)

    holds(head, reference)


@pytest.mark.parametrize("fill", ["Forecast", "ForwardFill", "LinearInterpolation"])
def test_minimal_rnn(fill):
    """A grid of months walked one by one; what a month lacks is filled, then the cell of Chen 2017 takes it in."""
    chosen = f"model.head.cell.fill._target_=framework.nn.heads.minimal_rnn.{fill}"
    head = made("minimal_rnn", chosen, "model.head.cell.limit=30")
    cell = head.cell

    def months(years):
        return min(int(np.round(np.float32(years) * np.float32(12))), 30)

    def step(h, x):
        z = np.tanh(dense(cell.enter, x))
        u = sigmoid(dense(cell.gate, h, z))
        return u * h + (1 - u) * z

    def reference(x, m, t, ahead):
        h, now, last = np.zeros(H), np.zeros(D), np.zeros(D)
        for k, dt in enumerate(gaps(t)):
            count = max(months(dt), 1)
            coming = np.where(m[k], x[k], last)
            for month in range(1, count + 1):
                forecast = now + dense(cell.change, h)
                line = last + month / count * (coming - last)
                now = {"Forecast": forecast, "ForwardFill": last, "LinearInterpolation": line}[fill]
                if month == count:
                    now = np.where(m[k], x[k], now)
                h = step(h, now)
            last = coming
        for _ in range(months(ahead)):
            now = now + dense(cell.change, h)
            h = step(h, now)
        return out(cell, np.concatenate([h, now]), ahead)

    holds(head, reference)


def test_ode_rnn():
    """Rubanova et al. 2019, Algorithm 1, the equation solved by more steps than the head takes."""
    head = made("ode_rnn", "model.head.cell.substeps=32")
    cell = head.cell

    def slope(h):
        return np.tanh(dense(cell.slope_out, np.tanh(dense(cell.slope_hidden, h))))

    def solved(h, years, n=64):
        for _ in range(n):
            size = years / n
            a = slope(h)
            b = slope(h + size / 2 * a)
            c = slope(h + size / 2 * b)
            h = h + size / 6 * (a + 2 * b + 2 * c + slope(h + size * c))
        return h

    def reference(x, m, t, ahead):
        h = np.zeros(H)
        for k, dt in enumerate(gaps(t)):
            h = gru(cell, solved(h, dt), *fed(x[k], m[k], dt))
        return out(cell, solved(h, ahead), ahead)

    holds(head, reference)


def test_ssm():
    """Gu & Dao 2023, Algorithm 2, a visit at a time; the question is a visit that shows nothing and leaves no trace."""
    head = made("ssm")

    def through(layer, states, u):
        y = gelu(dense(layer.back, states.real, states.imag))
        value, gate = np.split(dense(layer.mix, y, normed(u)), 2, -1)
        return u + value * sigmoid(gate)

    def reference(x, m, t, ahead):
        u = np.stack([dense(head.enter, *fed(*visit)) for visit in zip(x, m, gaps(t), strict=True)])
        asked = dense(head.ask, [np.log1p(ahead)])
        for layer in head.layers:
            lam = -np.exp(of(layer.decay)) + 1j * of(layer.turn)
            scale = np.sqrt(1 - np.exp(2 * lam.real))
            state, states = np.zeros(H, complex), []
            for dt, e in zip(gaps(t), normed(u), strict=True):
                pace, forget, take = np.split(dense(layer.select, e), 3)
                pace = np.exp(np.tanh(pace))
                real, imaginary = np.split(dense(layer.enter, e), 2)
                state = np.exp(lam * pace * dt) * sigmoid(of(layer.hold) - forget) * state
                state = state + scale * sigmoid(take) * (real + 1j * imaginary)
                states.append(state)
            asked = through(layer, np.exp(lam * pace * ahead) * state, asked)
            u = through(layer, np.stack(states), u)
        return out(head, np.concatenate([asked, u[-1]]), ahead)

    holds(head, reference)


def test_transformer():
    """Vaswani et al. 2017, Eq. 1, a query and a head at a time; times as complex rotations (Su et al. 2021)."""
    head = made("transformer", "model.head.heads=2")

    def attend(part, asks, when, x, t):
        answers = []
        for query, key, value, fade in zip(
            *(np.split(dense(layer, y), 2, -1) for layer, y in ((part.query, asks), (part.key, x), (part.value, x))),
            np.exp(of(part.fade)),
            strict=True,
        ):
            size = len(query)
            omega = 2 * np.pi / np.geomspace(part.shortest, part.longest, size // 2)
            turned = (query[: size // 2] + 1j * query[size // 2 :]) * np.exp(1j * omega * when)
            keys = (key[:, : size // 2] + 1j * key[:, size // 2 :]) * np.exp(1j * omega * t[:, None])
            share = np.exp((keys @ turned.conj()).real / np.sqrt(size) - fade * (when - t))  # Press et al. 2022
            answers.append(share / share.sum() @ value)
        return dense(part.out, *answers)

    def through(block, asks, when, x, t):
        asks = asks + attend(block.attention, normed(asks), when, normed(x), t)
        return asks + dense(block.back, gelu(dense(block.wide, normed(asks))))

    def token(x, m, t, k):
        """What is seen at visit k, and of each variable what was seen last and how long ago."""
        when = [np.flatnonzero(m[: k + 1, d]) for d in range(D)]
        last = [x[seen[-1], d] if len(seen) else 0 for d, seen in enumerate(when)]
        age = [np.log1p(t[k] - t[seen[-1]]) if len(seen) else 0 for seen in when]
        return [*fed(x[k], m[k], gaps(t)[k]), last, [len(seen) > 0 for seen in when], age]

    def reference(x, m, t, ahead):
        t = t - t[0]
        u = np.stack([dense(head.enter, *token(x, m, t, k)) for k in range(len(t))])
        asked = u[-1] + dense(head.ask, [np.log1p(ahead)])
        for block in head.blocks:
            asked = through(block, asked, t[-1] + ahead, u, t)
            u = np.stack([through(block, u[k], t[k], u[: k + 1], t[: k + 1]) for k in range(len(t))])
        return out(head, np.concatenate([normed(asked), normed(u[-1])]), ahead)

    holds(head, reference)


def test_mean_pool():
    head = made("mean_pool")

    def reference(x, m, t, ahead):
        mean = [x[:, d][m[:, d] > 0].mean() if m[:, d].any() else 0 for d in range(D)]
        return out(head, np.concatenate([mean, m.mean(0)]), ahead)

    holds(head, reference)


def test_dropout_keeps_the_same_states_at_all_times():
    head, (sequence, query) = made("minimal_rnn"), series()
    plain, key = head(sequence, query), jax.random.key(0)
    np.testing.assert_array_equal(head(sequence, query, key, 0.0), plain)
    assert (np.asarray(head(sequence, query, key, 0.5)) != plain).any()
    carry = head.cell.init_with_dropout(head.cell.initial(3), key, 0.5)
    assert set(np.unique(carry[3])) == {0, 2}
    x, observed = np.asarray(sequence.x), np.asarray(sequence.observed)
    for visit in range(3):
        moved = head.cell.update(carry, jnp.asarray(x[:, visit]), jnp.asarray(observed[:, visit]), jnp.ones(3))
        np.testing.assert_array_equal(moved[3], carry[3])
        carry = moved


def test_a_gap_longer_than_the_limit_is_walked_in_as_many_steps_as_there_are():
    head = made("minimal_rnn", "model.head.cell.limit=6")
    state = tuple(jnp.asarray(a) for a in head.cell.initial(1))
    seen = jnp.ones((1, D)), jnp.ones((1, D), bool)
    half, long = (head.cell.update(state, *seen, jnp.full(1, years)) for years in (0.5, 9.0))
    jax.tree.map(np.testing.assert_array_equal, half, long)
