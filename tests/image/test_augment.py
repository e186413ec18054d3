from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra.utils import instantiate
from scipy import ndimage

from framework.errors import UserError
from framework.image.augment import Affine, BiasField, Compose, Cutout, Elastic, Flip, Gamma, Noise, Shift
from framework.image.augment.space import bend, gather, move, rotation
from framework.types import Scans
from tests.contracts.recipes import config

KEY = jax.random.key(5)
STRONG = [
    Flip(),
    Shift(2),
    Affine(20.0, 0.2, 0.1),
    Elastic(0.09),
    Noise(0.1),
    Gamma(0.5),
    BiasField(0.2),
    BiasField(0.2, 3),
    Cutout(0.3),
]
IDLE = [
    Flip(0.0),
    Shift(0),
    Affine(),
    Elastic(0.0),
    Noise(0.0),
    Gamma(0.0),
    BiasField(0.0),
    BiasField(0.0, 3),
    Cutout(0.0),
]
GRIDS = [(12, 10, 8, 2), (12, 10, 1, 3)]


def scans(n=6, grid=GRIDS[0], smooth=0.0):
    voxels = np.random.default_rng(0).random((n, *grid)).astype(np.float32)
    if smooth:
        voxels = ndimage.gaussian_filter(voxels, [0, *([smooth] * 3), 0])
    return Scans(voxels, np.arange(n) // 2, np.arange(n) % 2, np.ones(n, bool))


def same_scan(n=6, grid=GRIDS[0]):
    """n times one scan, so that whatever differs was drawn apart."""
    some = scans(n, grid)
    return replace(some, voxels=np.repeat(some.voxels[:1], n, 0))


def varied(transforms, some, key=KEY, place=0):
    return np.asarray(jax.jit(Compose(transforms), static_argnums=2)(some, key, place).voxels)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("idle", IDLE, ids=repr)
def test_parameters_of_nothing_change_nothing(idle, grid):
    some = scans(grid=grid)
    np.testing.assert_allclose(varied([idle], some), some.voxels, atol=2e-6)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("strong", STRONG, ids=repr)
def test_varied_finite_of_the_same_shape_and_by_the_key_alone(strong, grid):
    some, by = scans(grid=grid), jax.jit(Compose([strong]))
    one, again, other = (by(some, key).voxels for key in (KEY, KEY, jax.random.key(6)))
    assert one.shape == some.voxels.shape
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    assert np.abs(one - some.voxels).max() > 1e-3
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("strong", [one for one in STRONG if "same" in {f.name for f in fields(one)}], ids=repr)
def test_a_draw_is_for_the_subject_or_for_the_scan(strong):
    some = same_scan(n=12)
    for same in ("subject", "scan"):
        voxels = varied([replace(strong, same=same)], some)
        alike = [np.array_equal(voxels[i], voxels[i + 1]) for i in range(0, 12, 2)]
        assert all(alike) if same == "subject" else not all(alike)
        assert np.abs(voxels - voxels[:1]).max() > 1e-3, "all subjects were varied alike"


def test_a_subject_is_varied_alike_whatever_its_company():
    some, spatial = scans(), [Flip(), Shift(2), Affine(20.0, 0.2, 0.1), Elastic(0.09), Cutout(0.3)]
    whole, part = varied(spatial, some), varied(spatial, jax.tree.map(lambda x: x[2:4], some))
    np.testing.assert_allclose(part, whole[2:4], atol=1e-6)


def test_modalities_move_together_and_are_noisy_apart():
    some, moves, noise = scans(), [Affine(20.0), Elastic(0.09)], [Noise(0.1)]
    np.testing.assert_array_equal(varied(moves, some, place=0), varied(moves, some, place=1))
    assert np.abs(varied(noise, some, place=0) - varied(noise, some, place=1)).max() > 1e-3


def grid_of(shape):
    return jnp.stack(jnp.meshgrid(*(jnp.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"))[None]


@jax.jit
def moved(voxels, matrix, translation):
    shape = voxels.shape[1:4]
    n = len(voxels)
    points = move(grid_of(shape), jnp.broadcast_to(jnp.asarray(matrix), (n, 3, 3)), jnp.tile(translation, (n, 1)))
    return gather(voxels, [points[:, a] + (k - 1) / 2 for a, k in enumerate(shape)])


def test_a_pure_translation_is_a_shifted_array():
    voxels = scans().voxels
    out = moved(voxels, np.eye(3, dtype=np.float32), jnp.array([2 / 12, -1 / 10, 0]))
    expected = np.zeros_like(voxels)
    expected[:, 2:, :-1] = voxels[:, :-2, 1:]
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize(("axis", "plane"), [(0, (2, 3)), (1, (3, 1)), (2, (1, 2))])
def test_a_quarter_turn_is_rot90(axis, plane):
    voxels = scans(grid=(9, 9, 9, 1)).voxels
    angles = jnp.zeros(3).at[axis].set(jnp.pi / 2)
    np.testing.assert_allclose(
        moved(voxels, jax.jit(rotation)(angles), jnp.zeros(3)), np.rot90(voxels, -1, plane), atol=1e-4
    )


def test_an_image_turns_in_its_plane():
    voxels = scans(grid=(9, 9, 1, 2)).voxels
    turned = moved(voxels, jax.jit(rotation)(jnp.array([0, 0, jnp.pi / 2])), jnp.zeros(3))
    np.testing.assert_allclose(turned, np.rot90(voxels, -1, (1, 2)), atol=1e-4)
    assert (
        np.abs(moved(voxels, jax.jit(rotation)(jnp.array([0.3, 0.2, 0.1])), jnp.array([0, 0, 0.4])))
        .min(axis=(1, 2))
        .any()
    )


def test_affine_interpolation_against_scipy():
    voxels = scans(n=3, grid=(14, 12, 10, 2), smooth=1.0).voxels
    matrix = np.asarray(jax.jit(rotation)(jnp.array([0.2, -0.3, 0.4])) / 1.1)
    by = np.array([0.05, -0.04, 0.03], np.float32)
    out, shape = moved(voxels, matrix, jnp.asarray(by)), np.array(voxels.shape[1:4])
    centre = (shape - 1) / 2
    offset = centre - matrix @ (centre + by * shape)
    for i, c in np.ndindex(3, 2):
        expected = ndimage.affine_transform(voxels[i, ..., c], matrix, offset, order=1, mode="constant")
        inside = ndimage.affine_transform(np.ones(shape), matrix, offset, order=1, mode="constant") > 0.999
        assert inside.mean() > 0.4
        np.testing.assert_allclose(out[i, ..., c][inside], expected[inside], atol=1e-4)


def test_affine_draws_within_its_bounds_and_grows_by_its_scale():
    ball = np.zeros((40, 24, 24, 24, 1), np.float32)
    ball[:, 8:16, 8:16, 8:16] = 1
    some = Scans(ball, np.arange(40), np.zeros(40, int), np.ones(40, bool))
    share = varied([Affine(scale=0.2)], some).sum((1, 2, 3, 4)) / 8**3
    assert share.min() > 0.95 / 1.2**3
    assert share.max() < 1.05 * 1.2**3
    assert share.max() > 1.2
    assert share.min() < 0.8


def test_a_bend_is_smooth_and_never_folds():
    shape, size, cells = (24, 24, 24), 0.1, 4
    lattice = jnp.sign(jax.random.normal(KEY, (20, 3, 7, 7, 7)))  # every point as far as it may go
    displaced = np.asarray(size * jax.jit(bend, static_argnums=1)(lattice, shape)) * 24
    steps = np.stack([np.gradient(displaced, axis=a + 2) for a in range(3)], axis=2) + np.eye(3)[:, :, None, None, None]
    assert np.linalg.det(np.moveaxis(steps, (1, 2), (-2, -1))).min() > 0
    assert cells * size == pytest.approx(0.4)
    assert 1 < np.abs(displaced).max() <= 2.4 + 1e-4
    np.testing.assert_allclose(bend(jnp.ones((1, 3, 7, 7, 7)), shape), 1, rtol=1e-5)


def test_warps_in_a_row_are_one_reading():
    some = scans(grid=(16, 16, 16, 1), smooth=2.0)
    once = varied([Affine(10.0), Elastic(0.05)], some)
    first, second = jax.random.split(KEY)
    bent = replace(some, voxels=jax.jit(Affine(10.0))(some, first))
    twice = np.asarray(jax.jit(Elastic(0.05))(bent, second))
    inside = (slice(None), *(slice(4, -4),) * 3)
    assert np.abs(once - twice)[inside].max() < 0.2 * np.abs(once - some.voxels)[inside].max()


def test_flip_takes_left_for_right_in_half_of_the_draws():
    some = same_scan(n=200)
    voxels = varied([Flip()], some)
    flipped = np.array([np.array_equal(one, some.voxels[0][::-1]) for one in voxels])
    assert all(np.array_equal(one, some.voxels[0]) for one in voxels[~flipped])
    assert 0.3 < flipped.mean() < 0.7


def test_shift_by_whole_voxels():
    some = same_scan(n=60, grid=(8, 8, 1, 1))
    reach = [
        np.pad(some.voxels[0], [(1, 1), (1, 1), (0, 0), (0, 0)])[1 + i : 9 + i, 1 + j : 9 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    found = {next(k for k, r in enumerate(reach) if np.array_equal(one, r)) for one in varied([Shift(1)], some)}
    assert len(found) > 6


def test_noise_has_its_level():
    flat = Scans(np.ones((200, 8, 8, 8, 1), np.float32), np.arange(200), np.zeros(200, int), np.ones(200, bool))
    sd = varied([Noise(0.3)], flat).std((1, 2, 3, 4))
    assert sd.max() < 0.33
    assert sd.mean() == pytest.approx(0.15, abs=0.03)


def test_gamma_keeps_the_ends_and_the_order():
    some = scans()
    out = varied([Gamma(1.0)], some)
    for f in (np.min, np.max):
        np.testing.assert_allclose(f(out, (1, 2, 3)), f(some.voxels, (1, 2, 3)), atol=1e-5)
    np.testing.assert_array_equal(np.argsort(out[0, ..., 0].ravel()), np.argsort(some.voxels[0, ..., 0].ravel()))
    power = np.log((out - out.min((1, 2, 3), keepdims=True))[:, 5, 5, 5]) / np.log(0.5)
    assert np.isfinite(power).all()


def test_shading_is_the_polynomial_it_says():
    flat = Scans(np.ones((300, 9, 7, 5, 1), np.float32), np.arange(300), np.zeros(300, int), np.ones(300, bool))
    log = np.log(varied([BiasField(0.1, 3)], flat))[..., 0]
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (9, 7, 5)), indexing="ij")
    powers = [(i, j, k) for i in range(4) for j in range(4) for k in range(4) if 1 <= i + j + k <= 3]
    basis = np.stack([x**i * y**j * z**k for i, j, k in powers], -1).reshape(-1, 19)
    slopes, left, *_ = np.linalg.lstsq(basis, log.reshape(300, -1).T, rcond=None)
    assert left.max() < 1e-8
    assert slopes.std() == pytest.approx(0.1, rel=0.05)


def test_a_cutout_is_a_box_of_its_size():
    some = replace(scans(n=30, grid=(10, 10, 10, 2)), voxels=np.ones((30, 10, 10, 10, 2), np.float32))
    gone = varied([Cutout(0.3, same="scan")], some) == 0
    assert (gone.sum((1, 2, 3, 4)) == 27 * 2).all()
    assert gone.any(0).mean() > 0.5
    for axis in range(3):
        assert (gone.any((*({1, 2, 3} - {axis + 1}), 4)).sum(1) == 3).all()


def test_the_default_encoder_is_varied_as_ever():
    """Whole-voxel shifts by the subject's key, then a shading whose logarithm is a plane, by the batch's."""
    made = instantiate(config("model=cnn_gru").model, _convert_="all").augment
    some = scans(grid=(8, 8, 8, 1))
    for_shift, for_shading = jax.random.split(KEY)
    by = [jax.random.randint(jax.random.fold_in(for_shift, row), (3,), -1, 2) for row in some.row]
    slopes = 0.05 * jax.random.normal(for_shading, (6, 3))
    x = np.linspace(-1, 1, 8)
    expected = [
        np.pad(one, [(1, 1)] * 3 + [(0, 0)])[tuple(slice(1 + int(s), 9 + int(s)) for s in shift)]
        * np.exp(a * x[:, None, None] + b * x[:, None] + c * x)[..., None]
        for one, shift, (a, b, c) in zip(some.voxels, by, np.asarray(slopes), strict=True)
    ]
    np.testing.assert_allclose(jax.jit(made)(some, KEY).voxels, expected, rtol=1e-5)


def test_under_vmap_each_member_has_its_own():
    some, every = scans(n=2), [Flip(), Affine(20.0, 0.2, 0.1), Elastic(0.09), Gamma(0.3), Noise(0.1)]
    keys = jax.random.split(KEY, 2)
    lanes = jax.jit(jax.vmap(lambda key: Compose(every)(some, key).voxels))(keys)
    for lane, key in zip(lanes, keys, strict=True):
        np.testing.assert_allclose(lane, varied(every, some, key), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Elastic(0.2), "may fold"),
        (lambda: Flip(2.0), "expected 0 to 1"),
        (lambda: Noise(-1.0), "Noise.sd is -1"),
        (lambda: Shift(1, same="patient"), "expected one of"),
    ],
)
def test_settings_that_cannot_be(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_the_standard_augmentation_can_be_made_and_run():
    made = instantiate(config("model=cnn_gru", "model/augment=standard").model, _convert_="all").augment
    assert len(made.transforms) == 7
    whole = jax.jit(
        made, compiler_options={"xla_cpu_use_fusion_emitters": True}
    )  # the tests' older ones breed NaN in it
    assert np.isfinite(whole(scans(), KEY).voxels).all()
    assert instantiate(config("model=cnn_gru", "model/augment=none").model, _convert_="all").augment is None
