"""Courses of subjects: who is followed, how the disease runs and what is measured of it; no image is needed here.

Every subject passes along one logistic stage with an own onset and rate (the progression-score model of
Jedynak et al. 2012, NeuroImage 63:1478). The logarithms of ventricular and cortical volume are linear in age
and stage, the cognitive score falls with stage, and the diagnosis cuts the stage at two thresholds. Every
number sits in `Parameters`, with its source; `calibrate` prints the published rates beside the simulated ones.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SEXES = ("F", "M")
DIAGNOSES = ("CN", "MCI", "AD")
Numbers = Float[np.ndarray, "..."] | float


@dataclass(frozen=True)
class Parameters:
    """Every number of the simulated disease: years, mL, points, or a standard deviation in log volume.

    Where a source gives a rate and the model needs another quantity (a spread of onsets, say), the value is the
    one with which the simulated cohort shows that rate; `calibrate` holds the rates themselves.
    """

    # Who: ADNI's baseline groups are 229 CN, 398 MCI, 192 AD (Petersen et al. 2010, Neurology 74:201), aged
    # 77.0 ± 5.1, 76.0 ± 7.2 and 76.5 ± 7.4 (Hua et al. 2010, Neurobiol. Aging 31:1463), 42 % of them women.
    age: tuple[float, float] = (76.3, 6.8)
    age_range: tuple[float, float] = (55.0, 92.0)
    women: float = 0.42
    # Intracranial volume: 1289 ± 111 and 1469 ± 102 mL (Matsumae et al. 1996, J. Neurosurg. 84:982);
    # 1311 ± 90 and 1496 ± 100 mL (Ahmad et al., 58 adults over 40): about their mean, (F, M).
    icv: tuple[float, float] = (1300.0, 1480.0)
    icv_sd: tuple[float, float] = (100.0, 100.0)
    icv_error: float = 0.005  # repeats vary by 0.16 % (operator) to 1.3 % (scaling): Whitwell et al. 2001, AJNR 22:1483

    # Disease: stage = 1 / (1 + exp(-rate (t - onset))), t in years since the first visit.
    # A share of the controls is not on the course at all. The others are recruited by stage, as ADNI did (AD with a
    # score of 20 to 26, so mild only): the logit of their stage at entry is uniform. Cutting it gives the baseline
    # mix, and the rate lets MCI pass to dementia at 16.5 % a year (Petersen 2010) after five to six years of
    # quickened decline (Wilson et al. 2011, Arch. Neurol. 68:351).
    healthy: float = 0.25
    healthy_onset: tuple[float, float] = (30.0, 4.0)
    entry: tuple[float, float] = (-3.15, -0.25)
    rate: tuple[float, float] = (0.20, 0.30)  # median per year, sd of its logarithm
    mci_from: float = 0.05
    ad_from: float = 0.24
    diagnosis_sd: float = 0.25  # of the logit of the stage as the clinician sees it: MCI reverts now and then

    # Ventricles: log mL = baseline + log(icv / mean icv) + ageing (age - 70) + widening * stage.
    # Healthy elderly gain about 4 % a year (Fjell et al. 2009, J. Neurosci. 29:15223), AD about 9-10 %;
    # the rates of ventricular enlargement themselves rise by 0.27 (0.12-0.43) mL/y² in MCI and 0.88 (0.47-1.29)
    # in AD (Leung et al. 2013, Neurology 80:648): the inflection of the logistic lies after the diagnosis.
    ventricles: tuple[float, float] = (25.5, 0.42)  # median mL at 70 and stage 0, sd of the logarithm
    ventricles_ageing: tuple[float, float] = (0.030, 0.012)
    widening: tuple[float, float] = (1.10, 0.15)
    ventricles_error: float = 0.02  # test-retest CV of lateral ventricles, FreeSurfer: Maclaren et al. 2014 (140037)

    # Cortex: log(mL / template's share of the icv) = -(baseline + ageing (age - 70) + thinning * stage).
    # 0.5 % a year in healthy elderly (Fjell 2009), 2 % in AD; the template is of young adults, whence the baseline.
    cortex: tuple[float, float] = (0.05, 0.04)
    cortex_ageing: tuple[float, float] = (0.005, 0.0015)
    thinning: tuple[float, float] = (0.33, 0.05)
    cortex_error: float = 0.016  # the smallest CV of a structure in Maclaren et al. 2014

    # Cognition, an MMSE: mean = top - drop * stage**bend, sd = sd0 + sd1 * stage, rounded, within 0-30.
    # Baseline 29.1, 27.0, 23.3 in ADNI (Petersen 2010); AD loses 3.4 a year in CERAD, whose sd of the error of
    # measurement is 2.8 (Clark et al. 1999, Arch. Neurol. 56:857), and about 2 in ADNI.
    cognition_top: float = 29.2
    cognition_drop: float = 40.0
    cognition_bend: float = 1.75
    cognition_sd: tuple[float, float] = (1.0, 3.0)

    # Follow-up: ADNI's months; the study ends for each after 4 to 8 planned visits. At the Wisconsin ADRC 14 % of
    # controls, 30 % of MCI and 35 % of AD withdrew within eight years, most of them early, on top of deaths.
    months: tuple[int, ...] = (0, 6, 12, 18, 24, 36, 48, 60)
    planned: tuple[int, int] = (4, 8)
    jitter: float = 0.08  # years, sd of a visit's date
    attends: float = 0.92
    leaves: tuple[float, float, float] = (0.03, 0.06, 0.10)  # a year, by the diagnosis last made
    # Shares lost of what an attended visit should bring: our choice, no published rate.
    no_cognition: float = 0.05
    no_diagnosis: float = 0.02
    no_t1: float = 0.06
    no_flair: float = 0.20
    unsegmented: float = 0.03  # a T1 scan whose segmentation failed its quality control

    # Scanner: gain by site and by scan; bias field as sd of its logarithm; SNR of white matter in 1 mm³.
    site_gain: tuple[float, ...] = (0.80, 0.92, 1.0, 1.10, 1.25)
    scan_gain: float = 0.03
    bias: float = 0.08  # variations of 10-20 % are usual at 1.5 T: Sled et al. 1998, IEEE Trans. Med. Imaging 17:87
    snr: float = 20.0
    # Own anatomy: root mean square of the smooth displacement, mm, and the number of its cosine modes an axis.
    warp: float = 3.0
    warp_modes: int = 5
    warp_icv: float = 0.025  # sd of the logarithm that the warp adds to the intracranial volume, measured
    warp_cortex: float = 0.022  # and to the cortex

    # Of the template itself (measured on it by `template.read`).
    template_icv: float = 1886.5
    template_cortex: float = 767.3


@dataclass(frozen=True)
class Person:
    """One subject's truth; everything that is known of them only to the simulator."""

    sex: str
    age: float
    icv: float
    site: int
    onset: float
    rate: float
    ventricles: float
    ventricles_ageing: float
    widening: float
    cortex: float
    cortex_ageing: float
    thinning: float

    def stage(self, time: Numbers) -> np.ndarray:
        """The stage of the disease, 0 to 1, at `time` years since the first visit."""
        return logistic(self.rate * (time - self.onset))

    def log_ventricles(self, time: Numbers) -> np.ndarray:
        """The logarithm of the ventricles' true volume in mL."""
        aged = self.ventricles_ageing * (self.age + time - 70)
        return np.asarray(self.ventricles + aged + self.widening * self.stage(time))

    def cortex_loss(self, time: Numbers) -> np.ndarray:
        """How much lower the logarithm of the cortex's volume is than the template's."""
        aged = self.cortex_ageing * (self.age + time - 70)
        return np.asarray(self.cortex + aged + self.thinning * self.stage(time))


@dataclass(frozen=True)
class Planned:
    """One planned visit: when it fell, why it or a part of it is missing, and what would be measured there.

    `missing` maps "visit", a variable or a modality to its reason. The errors are factors on the true volumes.
    """

    id: str
    time: float
    cognition: int
    diagnosis: str
    ventricles_error: float
    cortex_error: float
    missing: dict[str, str]


def logistic(x: Numbers) -> np.ndarray:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)))


def draw_person(rng: np.random.Generator, p: Parameters) -> Person:
    """One subject from the population."""
    sex = int(rng.random() >= p.women)
    age = float(np.clip(rng.normal(*p.age), *p.age_range))
    icv = rng.normal(p.icv[sex], p.icv_sd[sex])
    rate = p.rate[0] * np.exp(p.rate[1] * rng.normal())
    onset = rng.normal(*p.healthy_onset) if rng.random() < p.healthy else -rng.uniform(*p.entry) / rate
    ventricles = rng.normal(np.log(p.ventricles[0]), p.ventricles[1]) + np.log(icv / np.mean(p.icv))
    slopes = [rng.normal(*pair) for pair in (p.ventricles_ageing, p.widening, p.cortex, p.cortex_ageing, p.thinning)]
    return Person(SEXES[sex], age, icv, int(rng.integers(len(p.site_gain))), onset, rate, ventricles, *slopes)


def follow(person: Person, rng: np.random.Generator, p: Parameters) -> list[Planned]:
    """Every visit planned for the person, the missed ones too; the first two are always attended.

    Leaving the study depends on the diagnosis last made and not on the stage, so that who stays says nothing about
    the disease beyond what was measured.
    """
    planned, gone, previous, last = [], False, 0.0, 0
    for index, month in enumerate(p.months[: rng.integers(p.planned[0], p.planned[1] + 1)]):
        time = 0.0 if index == 0 else month / 12 + float(np.clip(rng.normal(0, p.jitter), -0.2, 0.2))
        visit = _visit(f"m{month:02d}", time, person, rng, p)
        chance, leaves = rng.random(), rng.random()
        if index == 0:
            visit.missing.pop("diagnosis", None)  # every subject enters with one
        if index > 1:
            hazard = p.leaves[last] * (time - previous)
            gone = gone or leaves < hazard
        if gone:
            visit.missing["visit"] = "left the study"
        elif index > 1 and chance > p.attends:
            visit.missing["visit"] = "missed"
        if not {"visit", "diagnosis"} & visit.missing.keys():
            last = DIAGNOSES.index(visit.diagnosis)
        planned.append(visit)
        previous = time
    return planned


def _visit(name: str, time: float, person: Person, rng: np.random.Generator, p: Parameters) -> Planned:
    stage = float(person.stage(time))
    mean, sd = cognition_law(stage, p)
    seen = person.rate * (time - person.onset) + rng.normal(0, p.diagnosis_sd)
    ventricles, cortex = np.exp(rng.normal(size=2) * (p.ventricles_error, p.cortex_error))
    cognition = int(np.clip(np.rint(rng.normal(mean, sd)), 0, 30))
    diagnosis = DIAGNOSES[int(np.searchsorted(logit_thresholds(p), seen))]
    return Planned(name, time, cognition, diagnosis, ventricles, cortex, _losses(rng, p))


def _losses(rng: np.random.Generator, p: Parameters) -> dict[str, str]:
    lost = rng.random(5) < (p.no_cognition, p.no_diagnosis, p.no_t1, p.no_flair, p.unsegmented)
    missing = {
        name: "not done" for name, gone in zip(("cognition", "diagnosis", "t1", "flair"), lost[:4], strict=True) if gone
    }
    if lost[2] or lost[4]:
        reason = "no T1 scan" if lost[2] else "segmentation failed quality control"
        missing |= {"ventricles": reason, "cortex": reason}
    return missing


def cognition_law(stage: Numbers, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the score before it is rounded into 0-30."""
    mean = p.cognition_top - p.cognition_drop * stage**p.cognition_bend
    return np.asarray(mean), np.asarray(p.cognition_sd[0] + p.cognition_sd[1] * stage)


def logit_thresholds(p: Parameters) -> Float[np.ndarray, "2"]:
    """The logits of the stages from which MCI and AD are diagnosed."""
    stages = np.array([p.mci_from, p.ad_from])
    return np.log(stages / (1 - stages))


def streams(seed: int, subject: int) -> list[np.random.Generator]:
    """Three generators of the subject's own, hanging on (seed, subject) alone: course, anatomy, scanner."""
    return [np.random.default_rng((seed, subject, use)) for use in range(3)]
