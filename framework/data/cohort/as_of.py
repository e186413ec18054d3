"""A cohort as it was known at an earlier time."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from framework.data.cohort.store import Cohort


def known(cohort: Cohort, visits: Int[np.ndarray, " n"], until: Float[np.ndarray, " n"] | None = None) -> Cohort:
    """The first so many visits of each subject and nothing of the others; subjects keep their places.

    What else is recorded of a subject, such as an event's time, was known up to `until`, years since the first visit:
    without it up to the last of those visits.
    """
    there = np.arange(cohort.times.shape[1]) < visits[:, None]
    observed = cohort.observed & there[..., None]
    static_observed = cohort.static_observed & (visits > 0)[:, None]
    subjects = [
        {**entry, "visits": entry["visits"][:count]}
        for entry, count in zip(cohort.manifest["subjects"], visits.tolist(), strict=True)
    ]
    return replace(
        cohort,
        manifest={**cohort.manifest, "subjects": subjects},
        times=np.where(there, cohort.times, 0),
        values=np.where(observed, cohort.values, 0),
        observed=observed,
        static=np.where(static_observed, cohort.static, 0),
        static_observed=static_observed,
        until=np.where(there, cohort.times, 0).max(1, initial=0) if until is None else until,
    )
