"""Every image encoder of conf/model/encoder obeys the encoder's contract, in two and three dimensions."""

import re
from functools import partial
from itertools import product

import numpy as np
import pytest
from flax import nnx

from framework.errors import UserError
from tests.contracts import encoder_laws as laws
from tests.contracts.recipes import encoder, names

IMAGE = [name for name in names("model/encoder") if encoder(name) is not None]
GRIDS = [(17, 16, 19, 2), (17, 19, 1)]
LONG = (laws.the_same_compiled, GRIDS[1])  # eagerly every operation is compiled by itself: make trials


@pytest.fixture(scope="module", params=IMAGE)
def make(request):
    return shrunk(encoder(request.param))


def shrunk(made):
    """A partial with few channels, stages and taps: the laws are the same, and the programs small."""
    few = {"width": 4, "groups": 4, "out_features": 4, "stem": 3}
    small = {name: value for name, value in few.items() if name in made.keywords}
    if "blocks" in made.keywords:
        small["blocks"] = made.keywords["blocks"][:2]
    if "channels" in made.keywords:
        small["channels"] = [4] * len(made.keywords["channels"])
    if "encoder" in made.keywords:
        small["encoder"] = shrunk(made.keywords["encoder"])
    return partial(made, **small)


@pytest.mark.parametrize(
    ("law", "grid"),
    [
        pytest.param(*one, id=f"{one[0].__name__}-{len(one[1]) - 1}d", marks=pytest.mark.long if one == LONG else ())
        for one in product(laws.LAWS, GRIDS)
    ],
)
def test_law(make, law, grid):
    law(make, grid)


@pytest.mark.parametrize("grid", [(2, 2, 2, 1), (2, 3, 1)])
def test_a_scan_too_small_ends_in_one_line_or_is_encoded(make, grid):
    try:
        built = make(grid=grid, rngs=nnx.Rngs(0))
    except UserError as error:
        told = str(error)
    else:
        told = ""
        assert np.isfinite(built(np.ones((1, *grid), np.float32))).all()
    assert not told or re.fullmatch(r"this encoder needs scans of at least \d+ voxels a side, and they have 2×.*", told)


def test_channels_that_groups_do_not_divide_are_refused():
    with pytest.raises(UserError, match="6 channels cannot be normalised in 4 equal groups"):
        encoder("plain3d")(channels=[6], groups=4, grid=(32, 32, 1), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="6 channels"):
        encoder("resnet10")(width=6, groups=4, grid=(32, 32, 1), rngs=nnx.Rngs(0))
