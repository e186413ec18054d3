"""Forecasts with their observed outcomes, kept in the run folder so that any score can be computed again."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, assert_never
from urllib.parse import quote

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from framework.data.cohort.quoting import as_csv
from framework.errors import UserError
from framework.history import exceeds
from framework.types import LEVELS, MEDIAN, Categorical, Event, Number, Target


@dataclass(frozen=True)
class Outcomes:
    """The q queries of one target whose truth was observed; every model answered the same ones.

    A repeat r is one seed of the folds: each subject is tested once in it, by models that never saw that subject.
    A model may have taken part in the first repeats only.
    The p numbers of a forecast are the quantiles at `LEVELS` and the point forecast, the probability of each of the
    target's levels, or the survival of an event at each of its horizons. The truth of an event is (lo, hi], in years
    after the origin.
    """

    target: Target
    subjects: tuple[str, ...]
    subject: Int[np.ndarray, " q"]  # index into subjects
    fold: Int[np.ndarray, "r q"]
    origin: Int[np.ndarray, " q"]  # the last visit that was seen
    origin_time: Float[np.ndarray, " q"]  # years since the subject's first visit, as is time
    time: Float[np.ndarray, " q"]
    truth: Float[np.ndarray, "q ..."]  # original units, a level's index, or an event's lo and hi
    forecasts: Mapping[str, Float[np.ndarray, "_ q p"]]
    follow_up: Float[np.ndarray, "r q"] | None = None  # years: the longest horizon in the training of who answered

    @property
    def beyond(self) -> Bool[np.ndarray, "r q"]:
        """Which queries ask beyond the follow-up that was seen in training."""
        if self.follow_up is None:
            return np.zeros(self.fold.shape, bool)
        return exceeds(self.time - self.origin_time, self.follow_up)

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the target's levels; none of one that has no levels."""
        return self.target.levels if isinstance(self.target, Categorical) else ()

    @property
    def units(self) -> str | None:
        """The unit of a number; None of one without a unit, and of every other kind."""
        return self.target.units if isinstance(self.target, Number) and self.target.units != "1" else None

    def sharing(self, repeats: int) -> dict[str, Float[np.ndarray, "r q p"]]:
        """The forecasts of the first `repeats`, of the models that took part in all of those."""
        return {model: forecast[:repeats] for model, forecast in self.forecasts.items() if len(forecast) >= repeats}

    def quantiles(self, model: str) -> Float[np.ndarray, "r q l"]:
        """The forecast quantiles of a number."""
        return self.forecasts[model][..., : len(LEVELS)]

    def points(self, model: str) -> Float[np.ndarray, "r q"]:
        """The point forecasts of a number; an older run has its medians alone."""
        forecast = self.forecasts[model]
        return forecast[..., len(LEVELS) if forecast.shape[-1] > len(LEVELS) else MEDIAN]

    def table(self) -> pd.DataFrame:
        """One row for each model, repeat and query, in words: ids and level names instead of indices."""
        queries = {
            "subject": np.array(self.subjects, object)[self.subject],
            "origin": self.origin,
            "origin_time": self.origin_time,
            "time": self.time,
            **self._truths(),
        }
        parts = []
        for model, forecast in self.forecasts.items():
            for repeat, (fold, beyond, answers) in enumerate(zip(self.fold, self.beyond, forecast, strict=False)):
                answer = dict(zip(answer_names(self.target), answers.T, strict=False))  # an older run has no point
                columns = {"model": model, "repeat": repeat, "fold": fold, **queries, **answer}
                parts.append(pd.DataFrame(columns | {"beyond_follow_up": beyond}))
        return pd.concat(parts, ignore_index=True)

    def _truths(self) -> dict[str, np.ndarray]:
        match self.target:
            case Number():
                return {"truth": self.truth}
            case Categorical(levels=levels):
                return {"truth": np.array(levels, object)[self.truth.astype(int)]}
            case Event():
                return {"after": self.truth[:, 0], "until": self.truth[:, 1]}
            case _:
                assert_never(self.target)

    def dataset(self) -> xr.Dataset:
        """The same as labelled arrays."""
        last, places = _places(self.target)
        places = places[: next(iter(self.forecasts.values())).shape[-1]]  # an older run has no point forecasts
        repeats = len(self.fold)
        whole = [np.pad(made, ((0, repeats - len(made)), (0, 0), (0, 0))) for made in self.forecasts.values()]
        return xr.Dataset(
            {
                "forecast": (("model", "repeat", "query", last), np.stack(whole)),
                "repeats": ("model", [len(forecast) for forecast in self.forecasts.values()]),
                "subject": ("query", self.subject),
                "fold": (("repeat", "query"), self.fold),
                "origin": ("query", self.origin),
                "origin_time": ("query", self.origin_time, {"units": "years"}),
                "time": ("query", self.time, {"units": "years"}),
                "truth": ("query", self.truth) if self.truth.ndim == 1 else (("query", "end"), self.truth),
            }
            | (
                {}
                if self.follow_up is None
                else {"follow_up": (("repeat", "query"), self.follow_up, {"units": "years"})}
            ),
            coords={
                "model": np.array(list(self.forecasts), object),
                "subject_id": np.array(self.subjects, object),
                last: places,
            },
            attrs={"target": asdict(self.target)},
        )

    @staticmethod
    def from_dataset(data: xr.Dataset) -> "Outcomes":
        columns = ("subject", "fold", "origin", "origin_time", "time", "truth")
        follow_up = data["follow_up"].values if "follow_up" in data else None
        models, forecast = data["model"].values.tolist(), data["forecast"].values
        # an older run does not say it: there all took part in all
        took = data["repeats"].values if "repeats" in data else [len(one) for one in forecast]
        each = zip(models, forecast, took, strict=True)
        return Outcomes(
            target=_target(data.attrs["target"]),
            subjects=tuple(data["subject_id"].values.tolist()),
            forecasts={model: forecast[:repeats] for model, forecast, repeats in each},
            follow_up=follow_up,
            **{name: data[name].values for name in columns},
        )


def answer_names(target: Target) -> tuple[str, ...]:
    """Names of a forecast's p numbers in a table: q05 ... q95 and point, p_<level>, or s_<years> of survival."""
    match target:
        case Number():
            return (*(f"q{round(100 * level):02d}" for level in LEVELS), "point")
        case Categorical():
            return tuple(f"p_{level}" for level in target.levels)
        case Event():
            return tuple(f"s_{years:g}" for years in target.horizons)
        case _:
            assert_never(target)


def _places(target: Target) -> tuple[str, np.ndarray]:
    """The last axis of forecasts and its labels."""
    match target:
        case Number():
            return "number", np.array(answer_names(target), object)
        case Categorical():
            return "level", np.array(target.levels, object)
        case Event():
            return "horizon", np.array(target.horizons)
        case _:
            assert_never(target)


def _target(tree: Mapping[str, Any]) -> Target:
    """A target as `dataset` wrote it; earlier versions wrote the fields of every kind, empty where they say nothing."""
    kind = Event if tree.get("horizons") else Categorical if tree.get("levels") else Number
    parts: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in tree.items()}
    return kind(**{field.name: parts[field.name] for field in fields(kind) if field.name in parts})


def write(outcomes: Sequence[Outcomes], run: Path) -> None:
    """Write `forecasts.zarr`, one group a target, and `forecasts/<target>.csv`."""
    shutil.rmtree(run / "forecasts", ignore_errors=True)
    (run / "forecasts").mkdir(parents=True)
    for one in outcomes:
        (run / "forecasts" / f"{file_name(one.target)}.csv").write_text(as_csv(one.table()))
    groups = {file_name(one.target): one.dataset() for one in outcomes}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"targets": list(groups)}), **groups})
    codecs = [BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()]
    encoding = {group.path: {"forecast": {"compressors": codecs}} for group in tree.children.values()}
    held: dict[str, Any] = {}  # first: on disk, each of a hundred small files is waited for by itself
    tree.to_zarr(MemoryStore(held), mode="w", zarr_format=3, consolidated=False, encoding=encoding)
    shutil.rmtree(run / "forecasts.zarr", ignore_errors=True)
    for name, content in held.items():
        file = run / "forecasts.zarr" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.to_bytes())


def read(run: Path) -> list[Outcomes]:
    """Read what `write` wrote, in its order of targets. Raises UserError where there is nothing to read."""
    if not (run / "forecasts.zarr").is_dir():
        raise UserError(f"{run} has no forecasts.zarr; expected the folder of a finished run")
    try:
        with xr.open_datatree(run / "forecasts.zarr", engine="zarr", consolidated=False) as tree:
            return [Outcomes.from_dataset(tree[name].to_dataset().load()) for name in tree.attrs["targets"]]
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"the forecasts of {run} cannot be read ({why}); they are damaged: make the run again"
        ) from error


def file_name(target: Target) -> str:
    """The target's name where a path needs one; percent-encoded, because a name may hold a slash."""
    return quote(target.name, safe=" ")
