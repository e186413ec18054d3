"""Encoders pretrained on the scans of training subjects, saved for forecasts to start from."""

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
from framework.runs.data_loading import copy_ledger, describe_data, load_cohort
from framework.runs.execute import use_compilation_cache
from framework.runs.folder import RunFolder
from framework.runs.progress import TrainingProgress
from framework.train.reconstruction import Reconstruction

CHECKPOINTS = "checkpoints"


def pretrain(config: DictConfig) -> float:
    """Train one encoder for each modality; return their mean validation error."""
    use_compilation_cache()
    trainer = instantiate(config.model, _convert_="all")
    splitter = instantiate(config.split, _convert_="all")
    cohort = load_cohort(config)
    modalities = _visible_modalities(cohort, list(config.data.hidden))
    split, train_cohort = splitter.one(cohort), splitter.known(cohort)
    resolved_config = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved_config, dict)
    folder = RunFolder.of(resolved_config, cohort.fingerprint)

    def make() -> None:
        facts = _train_encoders(trainer, train_cohort, modalities, split, config.seed, folder)
        write_atomic(folder.path / SEEN, json.dumps(_training_scans(train_cohort, split)))
        copy_ledger(config.data.store, folder.path)
        folder.update_manifest(encoders=facts)

    folder.run_once(resolved_config, describe_data(config, cohort), make)
    shutil.rmtree(folder.path / CHECKPOINTS, ignore_errors=True)
    folder.check("manifest.json")
    encoders = folder.manifest()["encoders"]
    for name, facts in encoders.items():
        print(f"{name}: {_summary(facts)}")
    print(f"encoders: {folder.path}")
    errors = [facts["error"] for facts in encoders.values() if facts["error"] is not None]
    return float(np.mean(errors)) if errors else float("nan")


def _visible_modalities(cohort: Cohort, hidden: Sequence[str]) -> list[str]:
    names = [modality.name for modality in cohort.schema.modalities]
    visible = [name for name in names if name not in hidden]
    if not visible:
        raise UserError(
            f"there are no scans to train on: the cohort has {names or 'none'}, data.hidden is {list(hidden)}; "
            "choose data with scans"
        )
    return visible


def _train_encoders(
    trainer: Reconstruction, cohort: Cohort, modalities: Sequence[str], split: Split, seed: int, folder: RunFolder
) -> dict[str, dict]:
    """Train and save the encoders; return the manifest's facts of each modality's encoder.

    An encoder that an interrupted run had trained already is not trained again.
    """
    facts = {}
    for name, key in zip(modalities, jax.random.split(jax.random.key(seed), len(modalities)), strict=True):
        place = folder.path / CHECKPOINTS / name
        done = place.with_name(f"{name}.json")
        if not done.exists():
            with TrainingProgress(name, folder.path / "metrics.jsonl") as log:
                encoder = trainer.fit(cohort, name, split, key, log, place)
            save_weights(folder.path, name, encoder.weights)
            modality = cohort.schema.modality(name)
            write_atomic(done, json.dumps({"grid": [*modality.shape, modality.channels], **encoder.facts}))
        facts[name] = json.loads(done.read_text())
    return facts


def _training_scans(cohort: Cohort, split: Split) -> dict[str, list[str]]:
    """Return the subjects whose scans trained or validated the encoders, with the digests of these scans."""
    return {cohort.subjects[row]: digests(cohort, int(row)) for row in np.flatnonzero(split.train | split.validation)}


def _summary(facts: dict) -> str:
    trained = f"{facts['steps']} steps on {facts['scans']} scans"
    if facts["error"] is None:
        return f"{trained}; no validation subjects (split.validation=0)"
    return (
        f"{trained}; mean squared error of validation scans {facts['error']:.4g}, "
        f"{facts['error'] / facts['floor']:.0%} of that of the mean scan ({facts['floor']:.4g})"
    )
