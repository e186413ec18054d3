"""The simulated cohort `atrophy`: subjects as every other way in yields them, with what was planned and missed.

    for simulated in atrophy(subjects=200, seed=0): ...

Subject i depends on (seed, i) alone, so a cohort of 60 is the beginning of one of 200.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.simulate.anatomy import Anatomy, build
from framework.data.simulate.course import DIAGNOSES, SEXES, Parameters, Person, Planned, draw_person, follow, streams
from framework.data.simulate.render import CHANNELS, FIELD_OF_VIEW, Head, Renderer, renderer

MODALITIES = CHANNELS[:2]
BOTH = ("input", "target")
ABOVE = (0.0, None)  # bounds of a volume


@dataclass(frozen=True)
class Missed:
    """Something planned that the data lack: `what` is "visit", a variable or a modality."""

    visit: str
    what: str
    reason: str


@dataclass(frozen=True)
class Simulated:
    """A subject, and what of the plan is missing from it."""

    subject: Subject
    missed: tuple[Missed, ...]


def atrophy_schema(voxels: int = 32, p: Parameters | None = None) -> Schema:
    """The schema of the cohort; `voxels` a side, over 192 mm."""
    sites = tuple(f"site{number}" for number in range(1, len((p or Parameters()).site_gain) + 1))
    spacing = FIELD_OF_VIEW / voxels
    return Schema(
        variables=(
            Variable("age", ("input", "future"), "years", per_year=1.0),
            Variable("cognition", BOTH, "points", description="an MMSE", bounds=(0.0, 30.0)),
            Variable("ventricles", BOTH, "mL", description="lateral ventricles as segmented", bounds=ABOVE),
            Variable("cortex", BOTH, "mL", description="cortical grey matter as segmented", bounds=ABOVE),
            Variable("diagnosis", BOTH, levels=DIAGNOSES, ordered=True, positive_from="AD"),
            Variable("stage", ("hindsight",), description="the true stage, 0 to 1"),
            Variable("true_ventricles", ("hindsight",), "mL", description="the sum of the deformed map"),
            Variable("true_cortex", ("hindsight",), "mL", description="the sum of the deformed map"),
        ),
        static=(
            Variable("sex", levels=SEXES),
            Variable("age_baseline", units="years"),
            Variable("icv", units="mL", description="intracranial volume as measured"),
            Variable("site", ("group",), levels=sites),
            Variable("onset", ("hindsight",), "years", description="time at which the true stage is one half"),
            Variable("rate", ("hindsight",), "1/year", description="of the logistic stage"),
        ),
        modalities=tuple(Modality(name, (voxels, voxels, voxels), (spacing, spacing, spacing)) for name in MODALITIES),
    )


def atrophy(
    subjects: int,
    seed: int,
    voxels: int = 32,
    progress: Callable[[int, int], None] | None = None,
    p: Parameters | None = None,
    anatomy: Anatomy | None = None,
    workers: int = 2,
) -> Iterator[Simulated]:
    """Yield the subjects in order; `progress(done, subjects)` is called after each.

    `anatomy` may be handed in where it has been built before. Raises UserError where the template is missing.
    """
    p = p or Parameters()
    machine = renderer(anatomy or build(), voxels)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(simulate, machine, seed, index, p) for index in range(min(2 * workers, subjects)))
        for done in range(1, subjects + 1):
            result = waiting.popleft().result()
            if done + len(waiting) < subjects:
                waiting.append(pool.submit(simulate, machine, seed, done + len(waiting), p))
            if progress:
                progress(done, subjects)
            yield result


def simulate(machine: Renderer, seed: int, index: int, p: Parameters) -> Simulated:
    """One subject from its draws to its voxels."""
    course, anatomy, scanner = streams(seed, index)
    person = draw_person(course, p)
    planned = follow(person, course, p)
    icv_error = np.exp(p.icv_error * course.normal())
    head = machine.head(person.icv, anatomy, p)
    attended = [plan for plan in planned if "visit" not in plan.missing]
    amplitudes = _amplitudes(machine, head, person, np.array([plan.time for plan in attended]))
    visits = []
    for plan, amplitude in zip(attended, amplitudes, strict=True):
        maps = machine.maps_of(head, amplitude, float(person.cortex_loss(plan.time)))
        scans = {name: _scan(maps[..., k], person.site, machine.voxel, scanner, p) for k, name in enumerate(MODALITIES)}
        volumes = [machine.millilitres(maps[..., CHANNELS.index(name)]) for name in ("ventricles", "cortex")]
        visits.append(_visit(person, plan, volumes, scans))
    static = {
        "sex": person.sex,
        "age_baseline": person.age,
        "icv": head.icv * icv_error,
        "site": f"site{person.site + 1}",
        "onset": person.onset,
        "rate": person.rate,
    }
    return Simulated(Subject(f"sim{index:04d}", tuple(visits), static), tuple(_missed(planned)))


def _amplitudes(machine: Renderer, head: Head, person: Person, times: Float[np.ndarray, "t"]) -> list[float]:
    """How far to widen the template's ventricles so that the rendered ones have the person's volumes.

    The person's own warp changes them a little; what it does at the first and the last visit is made up for.
    """
    wanted = person.log_ventricles(times)
    template = machine.anatomy.coarse
    plain = wanted - np.log(
        template.millilitres(template.ventricles) * person.icv / template.millilitres(template.brain)
    )
    short = [
        wanted[end] - np.log(machine.ventricles(head, float(plain[end]), float(person.cortex_loss(times[end]))))
        for end in (0, -1)
    ]
    return list(plain + np.interp(times, times[[0, -1]], short))


def _visit(person: Person, plan: Planned, volumes: list[float], scans: dict[str, Scan]) -> Visit:
    ventricles, cortex = volumes
    values = {
        "age": person.age + plan.time,
        "cognition": float(plan.cognition),
        "ventricles": ventricles * plan.ventricles_error,
        "cortex": cortex * plan.cortex_error,
        "diagnosis": plan.diagnosis,
        "stage": float(person.stage(plan.time)),
        "true_ventricles": ventricles,
        "true_cortex": cortex,
    }
    return Visit(
        plan.id,
        plan.time,
        {name: value for name, value in values.items() if name not in plan.missing},
        {name: scan for name, scan in scans.items() if name not in plan.missing},
    )


def _missed(planned: list[Planned]) -> Iterator[Missed]:
    for plan in planned:
        whole = {"visit": plan.missing["visit"]} if "visit" in plan.missing else plan.missing
        yield from (Missed(plan.id, what, reason) for what, reason in whole.items())


def _scan(
    intensity: Float[np.ndarray, "x y z"], site: int, voxel: float, rng: np.random.Generator, p: Parameters
) -> Scan:
    """A magnitude image of the brain alone: gain, a smooth bias field, and Rician noise that larger voxels average."""
    gain = p.site_gain[site] * np.exp(p.scan_gain * rng.normal())
    noise = 0.87 / p.snr / np.sqrt(voxel**3)
    real, imaginary = rng.standard_normal((2, *intensity.shape), np.float32) * noise
    seen = np.hypot(intensity * _bias(intensity.shape[0], rng, p) + real, imaginary)
    return Scan((gain * seen * (intensity > 0)).astype(np.float32)[..., None])


def _bias(size: int, rng: np.random.Generator, p: Parameters) -> Float[np.ndarray, "x y z"]:
    """A field of low cosine modes around 1, the sd of its logarithm `bias`."""
    waves = np.cos(np.pi * np.arange(3)[:, None] * (np.arange(size) + 0.5) / size)
    modes = rng.normal(size=(3, 3, 3))
    modes[0, 0, 0] = 0
    field = np.einsum("ijk,ix,jy,kz->xyz", modes, waves, waves, waves, optimize=True)
    return np.exp(p.bias * field / field.std())
