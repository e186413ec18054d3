"""Prints what is published of rates of change beside what the simulated course shows: `python -m` this module.

Cohort means by the diagnosis at the first visit, from measured values and no image. The published ranges were
written down with their sources before any forecasting model saw the cohort.
"""

import numpy as np

from framework.data.simulate.course import DIAGNOSES, Parameters, draw_person, follow, streams

# Ranges that hold the cited means and their usual spread between methods and cohorts.
PUBLISHED = {
    "share CN": (0.24, 0.34, "Petersen 2010: 0.28"),
    "share MCI": (0.40, 0.52, "Petersen 2010: 0.49"),
    "share AD": (0.19, 0.28, "Petersen 2010: 0.23"),
    "ventricles CN, mL": (30.0, 40.0, "ADNI, Nestor 2008 and FreeSurfer tables: about 34-37"),
    "ventricles MCI, mL": (36.0, 47.0, "the same: about 41-44"),
    "ventricles AD, mL": (42.0, 54.0, "the same: about 47-50"),
    "ventricles CN, mL/y": (0.7, 2.0, "Nestor 2008, Leung 2013, Fjell 2009: 1-1.6"),
    "ventricles MCI, mL/y": (1.8, 3.6, "Nestor 2008, Leung 2013: 2-3"),
    "ventricles AD, mL/y": (3.0, 5.8, "Nestor 2008, Leung 2013: 3.4-5"),
    "acceleration MCI, mL/y²": (0.12, 0.43, "Leung 2013: 0.27 (0.12-0.43)"),
    "acceleration AD, mL/y²": (0.47, 1.29, "Leung 2013: 0.88 (0.47-1.29)"),
    "cortex CN, %/y": (-0.9, -0.3, "Fjell 2009: about -0.5"),
    "cortex AD, %/y": (-3.0, -1.3, "McDonald 2009, Fjell 2009: about -2"),
    "cognition CN": (28.4, 29.4, "Petersen 2010: 29.1"),
    "cognition MCI": (26.5, 28.0, "Petersen 2010: 27.0"),
    "cognition AD": (22.0, 24.5, "Petersen 2010: 23.3"),
    "cognition CN, /y": (-0.3, 0.1, "ADNI: about 0"),
    "cognition MCI, /y": (-1.3, -0.4, "ADNI: about -0.7"),
    "cognition AD, /y": (-3.4, -1.5, "ADNI: about -2; Clark 1999: -3.4"),
    "MCI to AD, /y": (0.10, 0.20, "Petersen 2010: 0.165"),
    "icv F, mL": (1250.0, 1350.0, "Matsumae 1996: 1289; Ahmad: 1311"),
    "icv M, mL": (1430.0, 1530.0, "Matsumae 1996: 1469; Ahmad: 1496"),
}


def table(subjects: int = 2000, seed: int = 0, p: Parameters | None = None) -> dict[str, float]:
    """The simulated counterpart of every published number, by name."""
    p = p or Parameters()
    rows = [_summary(seed, subject, p) for subject in range(subjects)]
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    found = {}
    for group in DIAGNOSES:
        of = column["group"] == group
        found[f"share {group}"] = of.mean()
        for name in ("ventricles", "cognition"):
            found[f"{name} {group}"] = np.nanmean(column[name][of])
            found[f"{name} {group}/y"] = np.nanmean(column[f"{name}/y"][of])
        found[f"acceleration {group}"] = np.nanmean(column["acceleration"][of])
        found[f"cortex {group}, %/y"] = np.nanmean(column["cortex/y"][of])
    mci = column["group"] == "MCI"
    found["MCI to AD, /y"] = column["converts"][mci].sum() / column["at risk"][mci].sum()
    for sex in "FM":
        found[f"icv {sex}, mL"] = column["icv"][column["sex"] == sex].mean()
    return {name: float(found[_plain(name)]) for name in PUBLISHED}


def _plain(name: str) -> str:
    for units in (", mL/y²", ", mL"):
        name = name.replace(units, "") if not name.startswith("icv") else name
    return name.replace(", /y", "/y") if name.startswith("cognition") else name


def _summary(seed: int, subject: int, p: Parameters) -> dict:
    rng = streams(seed, subject)[0]
    person = draw_person(rng, p)
    seen = [visit for visit in follow(person, rng, p) if "visit" not in visit.missing]
    time = np.array([visit.time for visit in seen])
    volume = np.exp(person.log_ventricles(time))
    score = np.array([visit.cognition for visit in seen], float)
    dementia = [visit.time for visit in seen if visit.diagnosis == "AD"]
    grid = np.linspace(0, 3, 7)  # Leung's scans fell within three years
    return {
        "group": seen[0].diagnosis,
        "sex": person.sex,
        "icv": person.icv,
        "ventricles": volume[0] * seen[0].ventricles_error,
        "ventricles/y": np.polyfit(time, volume * [visit.ventricles_error for visit in seen], 1)[0],
        "acceleration": 2 * np.polyfit(grid, np.exp(person.log_ventricles(grid)), 2)[0],
        "cortex/y": -100 * np.polyfit(time, person.cortex_loss(time), 1)[0],
        "cognition": score[0],
        "cognition/y": np.polyfit(time, score, 1)[0],
        "converts": bool(dementia),
        "at risk": dementia[0] if dementia else time[-1],
    }


def main() -> None:
    """Print the table."""
    for name, value in table().items():
        low, high, source = PUBLISHED[name]
        print(f"{name:26s} {value:9.2f}  in {low:g} to {high:g}: {low <= value <= high}  ({source})")


if __name__ == "__main__":
    main()
