from dataclasses import replace

import jax
import numpy as np
import pytest

from framework.baselines.native import tree_predict as native
from framework.baselines.trees import arrays as walking
from framework.baselines.trees.arrays import Trees, compact, predict_mean, predict_sum


def grown(m=5, k=41, p=3, f=6, sets=False, seed=0) -> Trees:
    """Random trees, some nodes not in use."""
    rng = np.random.default_rng(seed)
    feature, left = np.full((m, k), -1, np.int32), np.zeros((m, k), np.int32)
    threshold = np.zeros((m, k), np.float32)
    for t in range(m):
        end = 1
        for node in range(k - 9):
            if node < end and end + 2 <= k - 8 and (rng.random() < 0.7 or node < 3):
                feature[t, node], left[t, node], threshold[t, node] = rng.integers(f), end, rng.normal()
                if sets and feature[t, node] == 2:
                    threshold[t, node] = np.nan
                end += 2
    return Trees(
        feature,
        threshold,
        rng.random((m, k)) < 0.5,
        left,
        rng.integers(0, 9, (m, k, p)).astype(np.float32),
        rng.integers(0, 2**32, (m, k, 8 if sets else 0), np.uint32),
    )


def rows(n, f=6, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, f)).astype(np.float32)
    x[:, 2] = rng.integers(0, 40, n)
    return x, rng.random((n, f)) < 0.8


def by_hand(trees: Trees, x, observed, counts=None):
    total = np.zeros((len(x), trees.value.shape[-1]), np.float32)
    for t, i in np.ndindex(len(trees.feature), len(x)):
        node = 0
        while (j := trees.feature[t, node]) >= 0:
            cut = trees.threshold[t, node]
            if not observed[i, j]:
                goes = trees.missing_left[t, node]
            elif np.isnan(cut):
                goes = int(trees.categories[t, node, int(x[i, j]) // 32]) >> (int(x[i, j]) % 32) & 1
            else:
                goes = x[i, j] <= cut
            node = trees.left[t, node] + (not goes)
        if counts is None or counts[t, i]:
            total[i] += trees.value[t, node]
    return total


def by_xla(trees: Trees, x, observed, counts):
    parts = (trees.feature, trees.threshold, trees.missing_left, trees.left, trees.value, trees.categories)
    return jax.jit(walking._walk)(*parts, x, observed, counts)


@pytest.mark.parametrize(("n", "k", "sets"), [(1, 41, False), (700, 41, False), (700, 41, True), (150, 1500, False)])
def test_sums_are_those_of_a_walk_by_hand(n, k, sets):
    trees, (x, observed) = grown(k=k, sets=sets), rows(n)
    assert k < 1000 or (trees.feature >= 0).sum(1).max() > 300
    counts = np.random.default_rng(2).random((5, n)) < 0.4
    for named in (None, counts):
        expected = by_hand(trees, x, observed, named)
        hidden = np.where(observed, x, np.nan).astype(np.float32)
        np.testing.assert_array_equal(predict_sum(trees, hidden, observed, named), expected)
        np.testing.assert_array_equal(
            by_xla(trees, x, observed, np.zeros((5, 0), bool) if named is None else named), expected
        )


def test_both_forms_round_alike_whatever_the_company():
    trees, (x, observed) = grown(m=40, k=400), rows(900)
    value = np.random.default_rng(4).normal(size=trees.value.shape).astype(np.float32)
    value[::2, :, 1] = 0
    trees = replace(trees, value=value)
    found = np.asarray(predict_sum(trees, x, observed))
    np.testing.assert_array_equal(found, by_xla(trees, x, observed, np.zeros((40, 0), bool)))
    np.testing.assert_array_equal(found[301:333], predict_sum(trees, x[301:333], observed[301:333]))


def test_compact_trees_say_the_same():
    trees, (x, observed) = grown(), rows(50)
    short = compact(trees)
    assert short.feature.shape[1] < trees.feature.shape[1]
    np.testing.assert_array_equal(predict_mean(short, x, observed), predict_mean(trees, x, observed))


def test_lanes_are_single_walks():
    if not native.available():
        pytest.skip("no native kernels on this machine")
    trees, (x, observed) = grown(), rows(300)
    many = jax.tree.map(lambda *parts: np.stack(parts), trees, grown(seed=3))
    found = jax.vmap(lambda own: predict_sum(own, x, observed))(many)
    np.testing.assert_array_equal(found[1], predict_sum(grown(seed=3), x, observed))
