"""Encoders pretrained on the scans of training subjects, kept for forecasts to start from."""

import json
import shutil
from collections.abc import Sequence

import jax
import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from framework.data.cohort.store import Cohort
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.files import write_atomic
from framework.forecast.deep.pretrained import SEEN, digests, save_weights
from framework.runs.data_loading import cohort_of, copy_ledger, facts
from framework.runs.execute import use_compilation_cache
from framework.runs.folder import RunFolder
from framework.runs.progress import Training
from framework.train.reconstruction import Reconstruction

CHECKPOINTS = "checkpoints"


def pretrain(config: DictConfig) -> float:
    """Train one encoder a modality; return their mean validation error, for any sweeper to use."""
    use_compilation_cache()
    recipe = instantiate(config.model, _convert_="all")
    splitter = instantiate(config.split, _convert_="all")
    cohort = cohort_of(config)
    modalities = _modalities(cohort, list(config.data.hidden))
    split, known = splitter.one(cohort), splitter.known(cohort)
    what = OmegaConf.to_container(config, resolve=True)
    assert isinstance(what, dict)
    folder = RunFolder.of(what, cohort.fingerprint)

    def make() -> None:
        told = _train(recipe, known, modalities, split, config.seed, folder)
        write_atomic(folder.path / SEEN, json.dumps(_seen(known, split)))
        copy_ledger(config.data.store, folder.path)
        folder.note(encoders=told)

    folder.once(what, facts(config, cohort), make)
    shutil.rmtree(folder.path / CHECKPOINTS, ignore_errors=True)
    folder.check("manifest.json")
    told = folder.manifest()["encoders"]
    for name, facts_of in told.items():
        print(f"{name}: {_line(facts_of)}")
    print(f"encoders: {folder.path}")
    errors = [one["error"] for one in told.values() if one["error"] is not None]
    return float(np.mean(errors)) if errors else float("nan")


def _modalities(cohort: Cohort, hidden: Sequence[str]) -> list[str]:
    names = [modality.name for modality in cohort.schema.modalities]
    seen = [name for name in names if name not in hidden]
    if not seen:
        raise UserError(
            f"there are no scans to train on: the cohort has {names or 'none'}, data.hidden is {list(hidden)}; "
            "choose data with scans"
        )
    return seen


def _train(
    recipe: Reconstruction, cohort: Cohort, modalities: Sequence[str], split: Split, seed: int, folder: RunFolder
) -> dict[str, dict]:
    """What the manifest says of each modality's encoder; the weights lie beside it.

    An encoder that an interrupted run had trained already is not trained again.
    """
    told = {}
    for name, key in zip(modalities, jax.random.split(jax.random.key(seed), len(modalities)), strict=True):
        place = folder.path / CHECKPOINTS / name
        done = place.with_name(f"{name}.json")
        if not done.exists():
            with Training(name, folder.path / "metrics.jsonl") as log:
                found = recipe.fit(cohort, name, split, key, log, place)
            save_weights(folder.path, name, found.weights)
            modality = cohort.schema.modality(name)
            write_atomic(done, json.dumps({"grid": [*modality.shape, modality.channels], **found.facts}))
        told[name] = json.loads(done.read_text())
    return told


def _seen(cohort: Cohort, split: Split) -> dict[str, list[str]]:
    """Everybody whose scans trained the encoders or decided when to stop, with the digests of these scans."""
    return {cohort.subjects[row]: digests(cohort, int(row)) for row in np.flatnonzero(split.train | split.validation)}


def _line(found: dict) -> str:
    trained = f"{found['steps']} steps on {found['scans']} scans"
    if found["error"] is None:
        return f"{trained}; nobody validated them (split.validation=0)"
    share = found["error"] / found["floor"]
    return (
        f"{trained}; mean squared error of validation scans {found['error']:.4g}, "
        f"{share:.0%} of what the mean scan leaves ({found['floor']:.4g})"
    )
