"""Forecasts for many subjects, a batch at a time."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from framework.data.batch import Loader, Rows
from framework.data.examples import Examples, Questions
from framework.forecast.base import Fitted
from framework.types import Classes

BATCH = 32


def answers(
    fitted: Fitted, examples: Examples, rows: Rows, questions: Questions
) -> dict[str, Float[np.ndarray, "rows q p"]]:
    """For each target the quantiles or class probabilities of these subjects' questions."""
    loader = Loader(replace(examples, layout=fitted.layout), cache_bytes=0)
    size = loader.size(min(BATCH, len(rows)), rows)
    parts: dict[str, list[np.ndarray]] = {target.name: [] for target in fitted.layout.targets}
    for some in loader.pack(rows, size):
        batch = loader.batch(some, size, questions)
        for name, forecast in fitted.predict(batch.visits, batch.query).items():
            numbers = forecast.probs if isinstance(forecast, Classes) else forecast.quantiles
            parts[name].append(np.asarray(numbers, np.float64)[: len(some)])
    return {name: np.concatenate(part) for name, part in parts.items()}
