"""The schema of a cohort: its variables with roles and units, its modalities with their grids.

Records (`Subject`, `Visit`, `Scan`) are what every way in yields and what the store writes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from framework.data.cohort.names import CONTROL, require_file_name, require_name
from framework.errors import UserError
from framework.types import Bounds

SCALES = ("linear", "log")
ROLES = ("input", "target", "future", "group", "date", "hindsight")
Value = float | str | None


@dataclass(frozen=True)
class Variable:
    """One clinical variable, measured at visits or once per subject.

    `levels` makes it a class (a value is then one of these strings); without levels it is a number in
    `units`. `positive_from` names the first level that counts as the event where the levels are ordered.
    Hindsight is what is known only afterwards (such as "Converted"): it is never an input. A known-ahead
    variable that advances by itself says how fast in `per_year` (age: 1); one that is planned leaves it None. A group
    (site, scanner) and a date (of the visit, or once per subject of the first; see `dates`) serve to split by.
    A number lies within its `bounds` (None: no bound on that side), and so do its forecasts. With `scale` "log" models
    read and forecast its logarithm, while everything is reported in `units`: for what is above 0 and skewed.
    """

    name: str
    roles: tuple[str, ...] = ("input",)
    units: str = "1"
    levels: tuple[str, ...] = ()
    ordered: bool = False
    positive_from: str | None = None
    per_year: float | None = None
    description: str = ""
    bounds: Bounds = (None, None)
    scale: str = "linear"

    def __post_init__(self):
        require_name(self.name, "a variable")
        self._check_scale()
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown or not self.roles:
            raise UserError(f"variable {self.name!r} has roles {list(self.roles)}; expected some of {list(ROLES)}")
        if "hindsight" in self.roles and len(self.roles) > 1:
            raise UserError(
                f"variable {self.name!r} is hindsight and also {[r for r in self.roles if r != 'hindsight']}; "
                "what is known only afterwards can have no other role: remove one"
            )
        if "date" in self.roles and self.levels:
            raise UserError(f"variable {self.name!r} is a date and has levels; remove one of the two")
        if odd := [level for level in self.levels if CONTROL.search(level)]:
            raise UserError(f"variable {self.name!r} has the level {odd[0]!r}, with a control character; remove it")
        if self.levels and len(set(self.levels)) < max(2, len(self.levels)):
            raise UserError(f"variable {self.name!r} has levels {list(self.levels)}; expected two or more, each once")
        if self.positive_from is not None and self.positive_from not in self.levels[1:]:
            raise UserError(
                f"variable {self.name!r} has positive_from {self.positive_from!r}; "
                f"expected one of its levels after the first: {list(self.levels[1:])}"
            )

    def _check_scale(self) -> None:
        low, high = self.bounds
        if low is not None and high is not None and low >= high:
            raise UserError(f"variable {self.name!r} has bounds {list(self.bounds)}; expected the lower one first")
        if self.scale not in SCALES:
            raise UserError(f"variable {self.name!r} has scale {self.scale!r}; expected one of {list(SCALES)}")
        if self.scale == "log" and (self.levels or "date" in self.roles):
            raise UserError(f"variable {self.name!r} has scale log, which is for numbers above 0; remove it")
        if self.scale == "log" and self.per_year is not None:
            raise UserError(f"variable {self.name!r} advances by per_year, so its scale is linear; remove scale: log")

    @property
    def is_class(self) -> bool:
        return bool(self.levels)

    def encode(self, value: Value) -> float:
        """The number stored for a value: itself, a level's index, or NaN where it is missing.

        Raises UserError for a level or number it does not know.
        """
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return np.nan
        if self.is_class:
            if str(value) not in self.levels:
                raise UserError(
                    f"{self.name} is {value!r}; expected one of {list(self.levels)}: fix the table or add the level"
                )
            return float(self.levels.index(str(value)))
        try:
            number = float(value)
        except ValueError:
            raise UserError(
                f"{self.name} is {value!r}; expected a number in {self.units}: fix the table or name it as missing"
            ) from None
        if not np.isfinite(number):
            raise UserError(f"{self.name} is {value!r}; expected a finite number in {self.units}")
        if self.scale == "log" and number <= 0:
            raise UserError(
                f"{self.name} has scale log and is not above 0; name the value as missing, or remove scale: log"
            )
        return number


@dataclass(frozen=True)
class Modality:
    """One kind of scan on its common grid: `shape` in voxels, `spacing` in mm.

    `background` is the value of what lies outside the patient, in the modality's units: 0, or -1000 of CT in HU.
    """

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int = 1
    units: str = "arbitrary"
    background: float = 0.0

    def __post_init__(self):
        require_file_name(self.name, "a modality")


@dataclass(frozen=True)
class Schema:
    """Everything a cohort declares before any subject is written."""

    variables: tuple[Variable, ...] = ()
    static: tuple[Variable, ...] = ()
    modalities: tuple[Modality, ...] = ()

    def __post_init__(self):
        names = [v.name for v in (*self.variables, *self.static)] + [m.name for m in self.modalities]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"the schema names {twice} more than once; give each variable and modality its own name")

    def variable(self, name: str) -> Variable:
        """The per-visit variable of that name; raises UserError naming those there are."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise UserError(f"no visit variable {name!r} in the cohort; it has {[v.name for v in self.variables]}")

    def modality(self, name: str) -> Modality:
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise UserError(f"no modality {name!r} in the cohort; it has {[m.name for m in self.modalities]}")

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(tree: Mapping) -> "Schema":
        def tuples(node: Mapping) -> dict:  # a schema written before variables had bounds has none
            return {k: tuple(v) if isinstance(v, list) else v for k, v in node.items()}

        return Schema(
            tuple(Variable(**tuples(v)) for v in tree["variables"]),
            tuple(Variable(**tuples(v)) for v in tree["static"]),
            tuple(Modality(**tuples(m)) for m in tree["modalities"]),
        )


@dataclass(frozen=True)
class Source:
    """The file a scan came from: its path relative to the data's root, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Scan:
    """One modality's volume at one visit, `voxels` of shape (x, y, z, channels), on the modality's grid."""

    voxels: np.ndarray
    source: Source | None = None


@dataclass(frozen=True)
class Visit:
    """One time point: `time` in years since the subject's first visit; a missing value is None or left out."""

    id: str
    time: float
    values: Mapping[str, Value] = field(default_factory=dict)
    scans: Mapping[str, Scan] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One patient under a pseudonymous id, visits in order of time."""

    id: str
    visits: tuple[Visit, ...]
    static: Mapping[str, Value] = field(default_factory=dict)


def validate(subject: Subject, schema: Schema) -> None:
    """Raise UserError for the first thing in `subject` that the schema does not allow."""
    where = f"subject {subject.id!r}"
    if not subject.visits:
        raise UserError(f"{where} has no visit; exclude it, with its reason, in the ledger")
    ids = [visit.id for visit in subject.visits]
    if odd := [name for name in (subject.id, *ids) if CONTROL.search(name)]:
        raise UserError(f"{where} has the id {odd[0]!r}, with a control character; remove it")
    if len(set(ids)) < len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise UserError(f"{where} has visit {twice[0]!r} twice; keep one of them or give each its own id")
    times = [visit.time for visit in subject.visits]
    if not np.all(np.isfinite(times)) or times[0] != 0:
        raise UserError(f"{where} has visit times {times} years; expected finite ones that start at 0")
    for before, after in zip(subject.visits, subject.visits[1:], strict=False):
        if after.time == before.time:
            raise UserError(f"{where} has visits {before.id!r} and {after.id!r} at the same time; merge or drop one")
        if after.time < before.time:
            raise UserError(
                f"{where} has visit {after.id!r} ({after.time:.3f} y) after {before.id!r} ({before.time:.3f} y); "
                "visits must come in order of time: sort them or fix the dates"
            )
    _known(subject.static, schema.static, where)
    for visit in subject.visits:
        at = f"{where}, visit {visit.id!r}"
        _known(visit.values, schema.variables, at)
        for name, scan in visit.scans.items():
            modality = schema.modality(name)
            expected = (*modality.shape, modality.channels)
            if scan.voxels.shape != expected:
                raise UserError(f"{at}, {name}: voxels of shape {scan.voxels.shape}; expected {expected}: resample it")
            if not np.all(np.isfinite(scan.voxels)):
                raise UserError(f"{at}, {name}: voxels hold NaN or infinity; repair or exclude the scan")


def _known(values: Mapping[str, Value], variables: tuple[Variable, ...], where: str) -> None:
    by_name = {variable.name: variable for variable in variables}
    for name, value in values.items():
        if name not in by_name:
            raise UserError(f"{where} has {name!r}, which the schema does not name; it names {sorted(by_name)}")
        try:
            by_name[name].encode(value)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
