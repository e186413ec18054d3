"""A new cohort read as if it had the variables, in their order, of the cohort a model was fitted on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from framework.data.cohort.schema import Schema, Variable
from framework.data.cohort.store import Cohort
from framework.errors import UserError


def align(cohort: Cohort, schema: Schema) -> Cohort:
    """The cohort under another schema: variables it lacks are unobserved, those the schema lacks are left out.

    Raises UserError where a variable's levels or units or a modality's grid are not the same, or nothing is shared.
    """
    if not _names(cohort.schema) & _names(schema):
        raise UserError(
            f"{cohort.path} shares nothing with the model, which reads {sorted(_names(schema))}; name its columns alike"
        )
    values, observed = _table(cohort.values, cohort.observed, cohort.schema.variables, schema.variables)
    static, static_observed = _table(cohort.static, cohort.static_observed, cohort.schema.static, schema.static)
    here = {modality.name: modality for modality in cohort.schema.modalities}
    for modality in schema.modalities:
        if modality.name in here and here[modality.name] != modality:
            raise UserError(
                f"{modality.name} is on {here[modality.name]}; the model was fitted on {modality}: "
                "ingest it on that grid"
            )
    return replace(
        cohort, schema=schema, values=values, observed=observed, static=static, static_observed=static_observed
    )


def _names(schema: Schema) -> set[str]:
    return {part.name for part in (*schema.variables, *schema.static, *schema.modalities)}


def _table(
    values: np.ndarray, observed: np.ndarray, have: Sequence[Variable], want: Sequence[Variable]
) -> tuple[np.ndarray, np.ndarray]:
    places = {variable.name: place for place, variable in enumerate(have)}
    shape = (*values.shape[:-1], len(want))
    new, mask = np.zeros(shape, values.dtype), np.zeros(shape, bool)
    for place, variable in enumerate(want):
        if variable.name not in places:
            continue
        old = have[places[variable.name]]
        if old.levels != variable.levels:
            raise UserError(
                f"{variable.name} has levels {list(old.levels)}; "
                f"the model was fitted on {list(variable.levels)}: map them"
            )
        if old.units != variable.units:
            raise UserError(f"{variable.name} is in {old.units}; the model was fitted on {variable.units}: convert it")
        new[..., place], mask[..., place] = values[..., places[variable.name]], observed[..., places[variable.name]]
    return new, mask
