"""A cohort as examples: histories, queries about them, and observed outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from framework.data.cohort.ledger import Entry
from framework.data.cohort.store import Cohort
from framework.data.queries.events import EventDefinition, since_origin
from framework.data.queries.origins import EVERY, Origins
from framework.errors import UserError
from framework.types import Arr, Event, Interval, Layout, Measured, Query, Targets, Truth, pytree

TASKS = ("future_visits", "next_visit", "current_visit", "unlabelled")


@dataclass(frozen=True)
class Examples:
    """A cohort seen through a layout.

    `task` names the queries: "future_visits", every later visit from every visit before it; "next_visit", each visit
    from the one before it, which is enough where series are long; "current_visit", each visit's own targets from its
    inputs (diagnosis), which needs targets whose history is no input; "unlabelled", none that the cohort has outcomes
    of. `origins` are the visits that evaluated queries start from, `about` those they may be about (None: all);
    training depends on neither. `events` give the times of the layout's events; each has one query an origin, in any
    task.
    They are read from the cohort as `recorded`, where `cohort` holds values transformed for a model.
    """

    cohort: Cohort
    layout: Layout
    task: str = "future_visits"
    origins: Origins = EVERY
    about: Bool[np.ndarray, "n t"] | None = None
    events: Mapping[str, EventDefinition] = field(default_factory=dict)
    recorded: Cohort | None = None

    def __post_init__(self):
        if self.task not in TASKS:
            raise UserError(f"task is {self.task!r}; expected one of {list(TASKS)}")
        names = [target.name for target in self.layout.targets]
        if len(set(names)) < len(names):
            raise UserError(f"data.targets={names} names one twice; name each once")
        planned = [column.name for column in self.layout.known if column.per_year is None and column.name in names]
        if planned:
            raise UserError(
                f"what is planned for {planned[0]!r} would be its answer: hide it with data.hidden={planned}"
            )
        seen = [target.name for target in self.layout.measured if target.seen]
        if self.task == "current_visit" and seen:
            raise UserError(
                f"task=current_visit would read the answer from the inputs: hide it with data.hidden={seen}"
            )
        if self.task != "unlabelled" and not self.eval_queries.query.valid.any():
            raise UserError(
                f"no subject has a visit to ask about (task={self.task}); "
                "forecasting needs two visits or more, one of them its origin"
            )
        for name, truth in self.eval_queries.truth.items() if self.task != "unlabelled" else ():
            if isinstance(truth, Interval) and not truth.observed.any():
                raise UserError(
                    f"no subject is at risk of {name!r} at a visit that something is known after; drop the target"
                )

    @property
    def subjects(self) -> tuple[str, ...]:
        return self.cohort.subjects

    @cached_property
    def eval_queries(self) -> "QuerySet":
        """Queries that the study evaluates."""
        about = self.cohort.valid if self.about is None else self.about
        return self._query_set(self.task == "current_visit", self.origins(self.cohort), about)

    @cached_property
    def train_queries(self) -> "QuerySet":
        """Queries that a forecaster is trained on: those evaluated, and the present state of targets it cannot see."""
        unseen = any(not target.seen for target in self.layout.measured)
        every = self.cohort.valid
        return self._query_set(self.task == "current_visit" or unseen, every, every)

    def _query_set(self, now: bool, origins: Bool[np.ndarray, "n t"], about: Bool[np.ndarray, "n t"]) -> "QuerySet":
        pairs_of = {
            "future_visits": lambda count: combinations(range(count), 2),
            "next_visit": lambda count: pairwise(range(count)),
        }
        ahead = pairs_of.get(self.task if self.layout.measured else "none", lambda count: ())
        ends = bool(self.layout.events)
        pairs = [
            [
                (j, k)
                for j, k in (*ahead(count), *((j, j) for j in range(count) if now or ends))
                if start[j] and (end[k] or (ends and j == k))
            ]
            for count, start, end in zip(self.cohort.valid.sum(1), origins, about, strict=True)
        ]
        width = max(1, *map(len, pairs))
        origin, visit = (np.zeros((len(pairs), width), int) for _ in range(2))
        valid = np.zeros((len(pairs), width), bool)
        for i, row in enumerate(pairs):
            for j, pair in enumerate(row):
                origin[i, j], visit[i, j] = pair
                valid[i, j] = True
        time = np.where(valid, np.take_along_axis(self.cohort.times, visit, 1), 0)
        stands = valid & np.take_along_axis(about, visit, 1) & (now | (visit > origin))
        return QuerySet(
            query=Query(time, origin, *known_at(self.cohort, self.layout, origin, time, visit), valid),
            visit=visit,
            truth={
                t.name: self._event(t.name, origin, valid & (visit == origin))
                if isinstance(t, Event)
                else self._truth(t, origin, visit, stands)
                for t in self.layout.targets
            },
        )

    def _event(self, name: str, origin: Int[np.ndarray, "n q"], valid: Bool[np.ndarray, "n q"]) -> Interval:
        lo, hi = (end[:, None] for end in self.events[name].between(self.recorded or self.cohort))
        interval = since_origin(lo, hi, np.take_along_axis(self.cohort.times, origin, 1))
        observed = interval.observed & valid
        return Interval(np.where(observed, interval.lo, 0), np.where(observed, interval.hi, np.inf), observed)

    def longest_horizon(self, rows: Bool[np.ndarray, " n"]) -> float:
        """Return the longest horizon of these subjects' training queries, in years."""
        query = self.train_queries.query
        origin = np.take_along_axis(self.cohort.times, np.asarray(query.origin), 1)
        return float(np.where(query.valid, query.time - origin, 0)[rows].max(initial=0))

    def check_trainable(self, learns: Bool[np.ndarray, " n"]) -> None:
        """Raise UserError for a target of which these subjects show nothing."""
        for name, truth in self.train_queries.truth.items():
            if not truth.observed[learns].any():
                raise UserError(
                    f"{name} was observed of none of {learns.sum()} training subjects, so there is nothing to learn "
                    "from; leave it out of data.targets, or take another split"
                )

    def left_out(self) -> list[Entry]:
        """For the ledger: the visits that are no origin of an event, and why."""
        entries, times, valid = [], self.cohort.times, self.cohort.valid
        for name, event in self.events.items():
            lo, hi = (end[:, None] for end in event.between(self.recorded or self.cohort))
            for i, j in np.argwhere(valid & ~since_origin(lo, hi, times).observed):
                came = hi[i, 0] <= times[i, j]
                reason = f"{name} had come by this visit" if came else f"nothing is known of {name} after this visit"
                entries.append(Entry(self.subjects[i], self.cohort.visits[i][j], name, "excluded", reason))
        return entries

    def _truth(
        self,
        target: Measured,
        origin: Int[np.ndarray, "n q"],
        visit: Int[np.ndarray, "n q"],
        valid: Bool[np.ndarray, "n q"],
    ) -> Truth:
        values, there = self.cohort.values[..., target.index], self.cohort.observed[..., target.index]
        observed = np.take_along_axis(there, visit, 1) & valid
        if target.seen:
            observed &= visit > origin  # what the inputs hold is not a query
        return Truth(np.where(observed, np.take_along_axis(values, visit, 1), 0), observed)


@pytree
class QuerySet:
    """Queries of all subjects (n, q), the visit each asks about, and the truths; that of an event is at its origin."""

    query: Query
    visit: Int[Arr, "n q"]
    truth: Targets


def known_at(
    cohort: Cohort,
    layout: Layout,
    origin: Int[np.ndarray, "n q"],
    time: Float[np.ndarray, "n q"],
    visit: Int[np.ndarray, "n q"] | None = None,
) -> tuple[Float[np.ndarray, "n q g"], Bool[np.ndarray, "n q g"]]:
    """Future covariates at the queries, and which of them there are: advanced from the origin's history, or as
    planned for the visit.

    Without a visit (a future that is not recorded) a planned variable keeps its last value. One that was never observed
    is 0, and masked.
    """
    known = np.zeros((*origin.shape, len(layout.known)))
    there = np.zeros(known.shape, bool)
    for place, column in enumerate(layout.known):
        value, observed = cohort.values[..., column.index], cohort.observed[..., column.index]
        last = _last(observed, origin)
        carried = np.take_along_axis(value, np.maximum(last, 0), 1)
        if column.per_year is not None:
            since = np.take_along_axis(cohort.times, np.maximum(last, 0), 1)
            carried = carried + column.per_year * (time - since)
        elif visit is not None:
            planned = np.take_along_axis(observed, visit, 1)
            carried = np.where(planned, np.take_along_axis(value, visit, 1), carried)
            last = np.where(planned, visit, last)
        there[..., place] = last >= 0
        known[..., place] = np.where(last >= 0, carried, 0)
    return known, there


def _last(observed: Bool[np.ndarray, "n t"], origin: Int[np.ndarray, "n q"]) -> Int[np.ndarray, "n q"]:
    """The last visit up to the origin at which something was observed, -1 where there is none."""
    seen = np.maximum.accumulate(np.where(observed, np.arange(observed.shape[1]), -1), axis=1)
    return np.take_along_axis(seen, origin, 1)
