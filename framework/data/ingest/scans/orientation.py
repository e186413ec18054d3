"""How a volume lies in space: its sform, its qform and its voxel sizes held against each other.

Both forms may be there. Where they contradict each other in size, handedness or direction, neither is believed unless
the user says which. A sform to a template (code above 2) may hold a 12-parameter affine, which keeps no volumes, so
that the qform is taken where it is the scanner's.
"""

import math

import numpy as np
from jaxtyping import Float

from framework.data.ingest.scans.header import Header
from framework.data.ingest.scans.reading import FORMS, MM

UNITS = ("mm", "meter", "mm", "micron")  # by code; 0 says nothing
TEMPLATE = 2  # codes above it name a template's space
SIZE, ANGLE, AXIS = 0.01, 1.0, 45.0  # relative; degrees within one space; degrees between two spaces
CHOICE = "say which is right: data.reader.scans.orientation=sform or =qform"
Matrix = Float[np.ndarray, "4 4"]


def affine_of(header: Header, orientation: str | None, spatial_units: str | None) -> tuple[Matrix, str | None]:
    """The affine from voxel indices to mm in RAS, and what to warn of. Raises ValueError for a contradiction."""
    fields = header.fields
    codes = {form: int(fields[f"{form}_code"]) for form in FORMS}
    for form, code in codes.items():
        if not 0 <= code <= 5:
            raise ValueError(f"its {form}_code is {code}; expected 0 to 5")
    made = {"sform": _sform, "qform": _qform}
    if orientation is not None:
        if codes[orientation] == 0:
            raise ValueError(f"it has no {orientation} (its code is 0), which is what orientation asks for")
        return _in_mm(made[orientation](fields), fields, spatial_units), None
    forms = {form: _whole(made[form](fields), form) for form in FORMS if codes[form]}
    if not forms:
        raise ValueError("neither sform nor qform says how it is oriented")
    if len(forms) == 2 and codes["sform"] > TEMPLATE >= codes["qform"]:
        return _in_mm(forms["qform"], fields, spatial_units), None
    if len(forms) == 2:
        _agree(forms["sform"], forms["qform"], codes)
    elif "sform" in forms:
        _by_itself(forms["sform"], fields)
    warning = (
        f"its sform leads to a template (code {codes['sform']}), where sizes may not be the patient's own; "
        "data.reader.scans.orientation=sform takes it as it is"
        if codes["sform"] > TEMPLATE
        else None
    )
    chosen = forms["sform"] if "sform" in forms else forms["qform"]
    return _in_mm(chosen, fields, spatial_units), warning


def _sform(fields: np.void) -> Matrix:
    return np.array([*(fields[f"srow_{axis}"] for axis in "xyz"), (0, 0, 0, 1)], dtype=np.float64)


def _qform(fields: np.void) -> Matrix:
    b, c, d = (float(fields[f"quatern_{letter}"]) for letter in "bcd")
    square = 1 - b * b - c * c - d * d
    if not square >= -1e-5:
        raise ValueError("its qform is no rotation: its quaternion is longer than 1")
    a, sign = math.sqrt(max(square, 0.0)), float(fields["pixdim"][0])
    if sign not in (-1, 0, 1):
        raise ValueError(f"its qform has the handedness (pixdim[0]) {sign:g}; expected 1 or -1")
    affine = np.eye(4)
    affine[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    affine[:3, :3] *= np.abs(fields["pixdim"][1:4].astype(np.float64)) * (1, 1, sign or 1)
    affine[:3, 3] = [float(fields[f"qoffset_{axis}"]) for axis in "xyz"]
    return affine


def _whole(affine: Matrix, form: str) -> Matrix:
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (
        not np.all(np.isfinite(affine))
        or not np.all(np.isfinite(lengths))
        or lengths.min() <= 0
        or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3
    ):
        raise ValueError(f"its affine ({form}) is degenerate: voxel axes of no length, not finite, or in one plane")
    return affine


def _in_mm(affine: Matrix, fields: np.void, spatial_units: str | None) -> Matrix:
    code = int(fields["xyzt_units"]) & 7
    if spatial_units is None and code >= len(UNITS):
        raise ValueError(f"its unit of length has the code {code}, which NIfTI does not define")
    affine = _whole(affine, "as chosen").copy()
    affine[:3] *= MM[spatial_units or UNITS[code]]
    return affine


def _agree(sform: Matrix, qform: Matrix, codes: dict[str, int]) -> None:
    """Raise ValueError where two forms give other sizes, another handedness or other axes."""
    said = "its sform (code {sform}) and its qform (code {qform})".format(**codes)
    sizes = np.linalg.norm(sform[:3, :3], axis=0), np.linalg.norm(qform[:3, :3], axis=0)
    if not np.allclose(*sizes, rtol=SIZE, atol=0):
        raise ValueError(f"{said} say voxels of {_mm(sizes[0])} and {_mm(sizes[1])}: {CHOICE}")
    one, other = sform[:3, :3] / sizes[0], qform[:3, :3] / sizes[1]
    if np.linalg.det(one) * np.linalg.det(other) < 0:
        raise ValueError(f"{said} are of opposite handedness, left and right change places: {CHOICE}")
    angle = float(np.degrees(np.arccos(np.clip((one * other).sum(0), -1, 1)).max()))
    if angle > (ANGLE if codes["sform"] == codes["qform"] else AXIS):
        raise ValueError(f"{said} point {angle:.0f} degrees apart: {CHOICE}")


def _by_itself(sform: Matrix, fields: np.void) -> None:
    """Raise ValueError where a sform without a qform gives other sizes than pixdim, or is sheared."""
    sizes, stated = np.linalg.norm(sform[:3, :3], axis=0), np.abs(fields["pixdim"][1:4].astype(np.float64))
    take = "data.reader.scans.orientation=sform takes the sform as it is"
    if not np.allclose(sizes, stated, rtol=SIZE, atol=0):
        raise ValueError(f"its sform says voxels of {_mm(sizes)}, its pixdim {_mm(stated)}: {take}")
    axes = sform[:3, :3] / sizes
    shear = float(np.degrees(np.arcsin(np.clip(np.abs(axes.T @ axes - np.eye(3)).max(), 0, 1))))
    if shear > ANGLE:
        raise ValueError(f"its sform is sheared by {shear:.0f} degrees: {take}")


def _mm(sizes: Float[np.ndarray, " 3"]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
