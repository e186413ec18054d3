"""A small cohort in the format of the TADPOLE challenge, with the quirks of its files, and what came of it."""

from pathlib import Path

import numpy as np
import pandas as pd

STAGES = ("CN", "MCI", "AD")
OLD = {"CN": "NL", "MCI": "MCI", "AD": "Dementia"}  # what DX calls them
SAME, WORSE, BETTER = (1, 2, 3), {(0, 1): 4, (1, 2): 5, (0, 2): 6}, {(1, 0): 7, (2, 1): 8, (2, 0): 9}
HEADER = "RID VISCODE EXAMDATE D1 D2 COLPROT DX DXCHANGE AGE PTGENDER PTEDUCAT ADAS13 MMSE Ventricles Hippocampus"
COLUMNS = [*HEADER.split(), "WholeBrain", "Entorhinal", "Fusiform", "MidTemp", "ICV", "ICV_bl", "Month_bl"]


def course(i: int, rng: np.random.Generator) -> dict:
    return {
        "start": pd.Timestamp("2006-01-01") + pd.Timedelta(days=int(rng.integers(0, 3000))),
        "level": rng.uniform(-0.5, 2.0),
        "rate": rng.uniform(0, 0.25),
        "icv": rng.uniform(1.2e6, 1.8e6),
        "age": round(rng.uniform(60, 85), 1),
        "sex": ("Female", "Male")[i % 2],
        "rollover": i % 2 == 0,
    }


def stage(c: dict, years: float) -> int:
    return int(np.clip(round(c["level"] + c["rate"] * years), 0, 2))


def numbers(c: dict, years: float) -> dict[str, float]:
    at = c["level"] + c["rate"] * years
    return {"ADAS13": round(10 + 8 * max(at, 0), 2), "Ventricles": round(c["icv"] * (0.02 + 0.006 * at), 1)}


def rows_of(i: int, c: dict, rng: np.random.Generator) -> list[dict]:
    made, before = [], stage(c, 0)
    for j, months in enumerate((0, 6, 12, 24, 36)[: int(rng.integers(2, 6))]):
        years, now = months / 12, stage(c, months / 12)
        told = numbers(c, years)
        change = {now == before: SAME[now]}.get(True) or (WORSE | BETTER)[before, now]
        row = {
            "RID": i + 2,
            "VISCODE": "bl" if j == 0 else f"m{months:02}",
            "EXAMDATE": str((c["start"] + pd.Timedelta(days=round(365.25 * years))).date()),
            "D1": 1,
            "D2": int(c["rollover"]),
            "COLPROT": "ADNI1",
            "DX": OLD[STAGES[now]] if now == before else f"{OLD[STAGES[before]]} to {OLD[STAGES[now]]}",
            "DXCHANGE": change,
            "AGE": c["age"],
            "PTGENDER": c["sex"],
            "PTEDUCAT": 12 + i % 5,
            "ADAS13": told["ADAS13"] if rng.random() > 0.2 else "",
            "MMSE": 29 - 3 * now,
            "Ventricles": told["Ventricles"] if rng.random() > 0.3 else " ",
            "Hippocampus": round(c["icv"] * 0.0045, 1) if rng.random() > 0.3 else -4,
            **{name: round(c["icv"] * share, 1) for name, share in (("WholeBrain", 0.7), ("Entorhinal", 0.002))},
            **{name: round(c["icv"] * 0.012, 1) for name in ("Fusiform", "MidTemp")},
            "ICV": c["icv"],
            "ICV_bl": c["icv"],
            "Month_bl": months,
        }
        made.append(row | {"DXCHANGE": ""} if rng.random() < 0.2 else row)
        before = now
    return made


def write(folder: Path, subjects: int = 24, seed: int = 0) -> dict[int, dict]:
    """D1_D2, D3 and D4 in a folder; each subject's course by its RID."""
    rng = np.random.default_rng(seed)
    courses = {i: course(i, rng) for i in range(subjects)}
    made = [row for i, c in courses.items() for row in rows_of(i, c, rng)]
    first = next(row for row in made if row["RID"] == 2)
    again = {name: "" for name in COLUMNS} | {name: first[name] for name in ("RID", "EXAMDATE", "AGE", "PTGENDER")}
    made.append(again | {"VISCODE": "nv", "MMSE": 24, "D1": 1, "D2": 1, "PTEDUCAT": first["PTEDUCAT"]})  # the same day
    table = pd.DataFrame(made, columns=COLUMNS).sample(frac=1, random_state=seed)  # visits in no order
    table.to_csv(folder / "TADPOLE_D1_D2.csv", index=False)
    last = pd.DataFrame([[*[r for r in made if r["RID"] == i + 2 and r["VISCODE"] != "nv"]][-1] for i in courses])
    last = last.assign(RID=last["RID"].astype(float)).drop(columns=["D1", "D2", "DXCHANGE", "ICV_bl", "Month_bl"])
    last.to_csv(folder / "TADPOLE_D3.csv", index=False)
    pd.DataFrame([later(i, c, rng) for i, c in courses.items() if c["rollover"]]).to_csv(
        folder / "TADPOLE_D4.csv", index=False
    )
    write_leaderboard(folder)
    return {i + 2: c for i, c in courses.items()}


def write_leaderboard(folder: Path) -> None:
    """LB1 and LB2 row by row: who rolled over is forecast from visits before 2012, the others are learnt from."""
    table = pd.read_csv(folder / "TADPOLE_D1_D2.csv", usecols=["RID", "VISCODE", "EXAMDATE", "D2"])
    early = table["EXAMDATE"] < "2012-01-01"
    boards = table.assign(LB1=(early & (table["D2"] == 0)).astype(int), LB2=(early & (table["D2"] == 1)).astype(int))
    boards[["RID", "VISCODE", "LB1", "LB2"]].to_csv(folder / "TADPOLE_LB1_LB2.csv", index=False)


def later(i: int, c: dict, rng: np.random.Generator) -> dict:
    seen = pd.Timestamp("2018-03-01") + pd.Timedelta(days=int(rng.integers(0, 400)))
    years = (seen - c["start"]).days / 365.25
    told, scanned = numbers(c, years), rng.random() > 0.3
    return {
        "RID": i + 2,
        "CognitiveAssessmentDate": str(seen.date()),
        "Diagnosis": STAGES[stage(c, years)],
        "ADAS13": told["ADAS13"],
        "ScanDate": str((seen + pd.Timedelta(days=20)).date()) if scanned else "",
        "Ventricles": told["Ventricles"] / c["icv"] if scanned else "",
    }
