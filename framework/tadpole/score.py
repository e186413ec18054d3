"""TADPOLE's submissions: what makes one valid, and its scores against D4 by the challenge's own rules.

Marinescu et al. (2020). The Alzheimer's Disease Prediction Of Longitudinal Evolution (TADPOLE) challenge. MELBA 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from framework.errors import UserError
from framework.evaluate.inference.bca_interval import Spread

DIAGNOSES = ("CN", "MCI", "AD")
PROBABILITIES = tuple(f"{name} relative probability" for name in DIAGNOSES)
NUMBERS = ("ADAS13", "Ventricles_ICV")
COLUMNS = (
    *("RID", "Forecast Month", "Forecast Date"),
    *PROBABILITIES,
    *(f"{name}{part}" for name in NUMBERS for part in ("", " 50% CI lower", " 50% CI upper")),
)
PARTS = (" truth", "", " 50% CI lower", " 50% CI upper")
BOUNDS = {"mAUC": (0.0, 1.0), "BCA": (0.0, 1.0)}
TRUTH = ("RID", "CognitiveAssessmentDate", "Diagnosis", "ADAS13", "ScanDate", "Ventricles")


def read_submission(path: Path) -> pd.DataFrame:
    """A submission, checked. Raises UserError for the first thing that is not as the challenge has it."""
    table = _read(path, COLUMNS)
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} has the columns {list(table.columns)}; expected {list(COLUMNS)} in this order")
    check(table, str(path))
    return table


def check(table: pd.DataFrame, where: str) -> None:
    """Raise UserError where months are missing or doubled, numbers are none, or intervals lack their forecast."""
    for rid, own in table.groupby("RID"):
        months = own["Forecast Month"].to_numpy()
        if sorted(months) != list(range(1, len(months) + 1)):
            raise UserError(
                f"{where}: the months of RID {rid} are not 1 to {len(months)}, each once; forecast each month"
            )
    numbers = table[list(COLUMNS[3:])].to_numpy(float)
    if not np.isfinite(numbers).all():
        raise UserError(f"{where} has cells that are no finite number; forecast every month of every subject")
    shares = table[list(PROBABILITIES)].to_numpy(float)
    if (shares < 0).any() or (shares.sum(1) <= 0).any():
        raise UserError(
            f"{where} has negative probabilities, or none above 0; give relative probabilities of 0 or more"
        )
    for name in NUMBERS:
        value, low, high = (table[f"{name}{part}"] for part in ("", " 50% CI lower", " 50% CI upper"))
        if not np.all((low < high) & (low <= value) & (value <= high)):
            raise UserError(f"{where}: a 50% interval of {name} is empty or leaves its forecast out; fix the intervals")


def read_truth(path: Path) -> pd.DataFrame:
    """D4, or the leaderboard's LB4: a row a later visit; of a table that marks LB4, the rows in it.

    Raises UserError where a column is missing or a diagnosis is none of the three.
    """
    table = _read(path, TRUTH)
    if "LB4" in table.columns:
        table = table.loc[table["LB4"] == 1, :].reset_index(drop=True)
    strange = set(table["Diagnosis"].dropna()) - set(DIAGNOSES)
    if strange:
        raise UserError(
            f"{path} has the diagnosis {sorted(map(str, strange))[0]!r}; expected some of {list(DIAGNOSES)}"
        )
    return table


def score(
    submission: pd.DataFrame, truth: pd.DataFrame, resamples: int = 1000, seed: int = 0, official_ties: bool = False
) -> dict[str, dict[str, float]]:
    """Every score with its 95% interval over subjects, by the same bootstrap as a leaderboard's (`Spread`).

    With `official_ties` equal probabilities are ranked in the order of their rows, as the challenge's script does.
    Raises UserError where a subject of D4 has no forecast.
    """
    pairs = matched(submission, truth)
    columns = _arrays(pairs)
    values = _scores(columns, official_ties)
    subjects = [rows.to_numpy() for _, rows in pd.Series(np.arange(len(pairs))).groupby(pairs["RID"].to_numpy())]
    rng = np.random.default_rng(seed)

    def of(drawn: Sequence[int] | Int[np.ndarray, " n"]) -> dict[str, float]:
        rows = np.concatenate([subjects[i] for i in drawn]) if len(drawn) else np.zeros(0, int)
        return _scores({name: column[rows] for name, column in columns.items()}, official_ties)

    draws = [of(drawn) for drawn in rng.integers(0, len(subjects), (resamples, len(subjects)))]
    without = [of(np.delete(np.arange(len(subjects)), i)) for i in range(len(subjects))]
    found = {}
    for name, value in values.items():
        each = (np.array([one[name] for one in some], float) for some in (draws, without))
        # a resample of one class alone has no mAUC
        spread = Spread.of(value, *each, smooth=not name.endswith("CPA"), bounds=BOUNDS.get(name, (0.0, np.inf)))
        low, high = spread.interval()
        found[name] = {"value": value, "low": low, "high": high}
    return found


def matched(submission: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Each row of D4 beside its forecasts: the month nearest to the assessment, and for ventricles to the scan.

    A month is its first day; of two months equally near the earlier counts.
    """
    start = pd.to_datetime(submission["Forecast Date"], format="%Y-%m")
    ordered = submission.assign(start=start).sort_values(["RID", "start"], kind="stable")
    own = {rid: (rows, rows["start"].to_numpy()) for rid, rows in ordered.groupby("RID")}
    absent = [rid for rid in truth["RID"] if rid not in own]
    if absent:
        raise UserError(
            f"{len(absent)} rows of the truth, such as of RID {absent[0]}, have no forecast; submit them too"
        )
    made = []
    for row in truth.to_dict("records"):
        rows, months = own[row["RID"]]
        seen, scan = (pd.to_datetime(row[name]) for name in ("CognitiveAssessmentDate", "ScanDate"))
        if pd.isna(seen) and pd.isna(scan):
            continue
        at = rows.iloc[_nearest(months, scan if pd.isna(seen) else seen)]
        scanned = at if pd.isna(scan) else rows.iloc[_nearest(months, scan)]
        forecast = {name: at[name] for name in COLUMNS[3:9]} | {name: scanned[name] for name in COLUMNS[9:]}
        known = {
            "ADAS13 truth": row["ADAS13"],
            "Ventricles_ICV truth": row["Ventricles"],
            "diagnosis": row["Diagnosis"],
        }
        made.append({"RID": row["RID"], **known, **forecast})
    return pd.DataFrame(made)


def bca(confusion: Float[np.ndarray, "c c"] | Int[np.ndarray, "c c"]) -> float:
    """Balanced accuracy from rows true and columns called: the mean over classes of ½ (sensitivity + specificity)."""
    total, hits = confusion.sum(), np.diag(confusion)
    true, called = confusion.sum(1), confusion.sum(0)
    sensitivity = np.where(true > 0, hits / np.maximum(true, 1), 0.5)
    specificity = np.where(total > true, (total - true - called + hits) / np.maximum(total - true, 1), 0.5)
    return float((sensitivity + specificity).mean() / 2)


def mauc(probability: Float[np.ndarray, "n c"], truth: Int[np.ndarray, " n"], official_ties: bool = False) -> float:
    """Multi-class area under the curve (Hand and Till 2001); NaN where a class does not occur."""
    classes = probability.shape[1]
    areas = [
        _area(probability[:, i], truth, i, j, official_ties) for i in range(classes) for j in range(classes) if i != j
    ]
    return float(np.mean(areas))


def _area(chance: Float[np.ndarray, " n"], truth: Int[np.ndarray, " n"], i: int, j: int, official_ties: bool) -> float:
    """Â(i|j): how often a member of i is given a greater chance of i than a member of j."""
    some = (truth == i) | (truth == j)
    from scipy.stats import rankdata  # loaded when scores are asked for: it takes long to import

    own, count = (truth == i)[some], int((truth == i).sum())
    others = int(some.sum()) - count
    if not count or not others:
        return np.nan
    ranks = rankdata(chance[some], "ordinal" if official_ties else "average")
    return float((ranks[own].sum() - count * (count + 1) / 2) / (count * others))


def _arrays(pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns as arrays: a diagnosis as its number, -1 where it is unknown; probabilities that sum to one."""
    place = {name: i for i, name in enumerate(DIAGNOSES)}
    shares = pairs[list(PROBABILITIES)].to_numpy(float)
    columns = [f"{name}{part}" for name in NUMBERS for part in PARTS]
    return {name: np.asarray(pairs[name], float) for name in columns} | {
        "truth": np.array([place.get(name, -1) for name in pairs["diagnosis"]], int),
        "shares": shares / shares.sum(1, keepdims=True),
    }


def _scores(columns: Mapping[str, np.ndarray], official_ties: bool) -> dict[str, float]:
    known = columns["truth"] >= 0
    truth, shares = columns["truth"][known], columns["shares"][known]
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (truth, shares.argmax(1)), 1)
    found = {"mAUC": mauc(shares, truth, official_ties), "BCA": bca(confusion)}
    for name in NUMBERS:
        some = ~np.isnan(columns[f"{name} truth"])
        errors = _errors(*(columns[f"{name}{part}"][some] for part in PARTS))
        found |= {f"{name} {metric}": value for metric, value in errors.items()}
    return found


def _errors(real: np.ndarray, forecast: np.ndarray, low: np.ndarray, high: np.ndarray) -> Mapping[str, float]:
    """Mean absolute error, weighted error score, coverage probability accuracy."""
    if not len(real):
        return dict.fromkeys(("MAE", "WES", "CPA"), np.nan)
    error, sure = np.abs(forecast - real), 1 / (high - low)
    covered = ((real > low) & (real < high)).mean()
    return {
        "MAE": float(error.mean()),
        "WES": float((sure * error).sum() / sure.sum()),
        "CPA": float(abs(covered - 0.5)),
    }


def _nearest(months: np.ndarray, day: pd.Timestamp) -> int:
    return int(np.abs(months - day.to_datetime64()).argmin())


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"nothing at {path}; expected a CSV with the columns {list(columns)}")
    table = pd.read_csv(path)
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UserError(f"{path} lacks the column {absent[0]!r}; expected {list(columns)}")
    return table
