"""One search under Hydra, from top to bottom."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict

from framework.errors import UserError
from framework.runs.folder import sources_digest
from framework.runs.identity import IRRELEVANT_KEYS, drop_keys
from framework.sweeps.search.settings import Settings

try:
    import optuna

    from framework.sweeps.search import store
    from framework.sweeps.search.objectives import read_objectives
    from framework.sweeps.search.search import Search, Values, summarize_study
    from framework.sweeps.search.space import Space
except ModuleNotFoundError as absent:
    raise UserError(f"hydra/sweeper=optuna needs {absent.name}; pip install 'prognax[search]'") from None


def sweep(sweeper, arguments: Sequence[str]) -> None:
    """Search over the space of the command line and `hydra.sweeper.params`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, config, context = sweeper.settings, sweeper.config, sweeper.hydra_context
    parse = OverridesParser.create(config_loader=context.config_loader).parse_overrides
    overrides = [*(f"{key}={value}" for key, value in settings.params.items()), *arguments]
    space = Space.of(parse(overrides), parse(list(settings.repeat)))
    identity = _search_identity(space, settings, config)
    folder = _search_folder(config, store.digest(identity))
    _set_sweep_folder(config, folder)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=sweeper.task, config=config)
    sweeper.validate_batch_is_legal(list(space.trial_overrides()))

    def launch(jobs: Sequence[Sequence[str]], first: int) -> list[Values]:
        returned = launcher.launch(jobs, initial_job_idx=first)
        return [read_objectives(job.return_value, settings.objectives) for job in returned]

    file = Path((settings.storage or str(folder / store.FILE)).removeprefix("sqlite:///"))
    with store.open_study(file, identity, len(settings.objectives)) as study:
        Search(study, space, settings, launch).run()
        print(summarize_study(study, space))


def _search_identity(space: Space, settings: Settings, config: DictConfig) -> dict[str, object]:
    """Return the settings that determine the trials, except their number; `rest` is for configuration and code."""
    shared = {key: value for key, value in asdict(settings).items() if key not in ("trials", "storage", "params")}
    rest = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"]))
    assert isinstance(rest, dict)
    tree = {str(key): value for key, value in rest.items()}
    return {
        **shared,
        **{f"{key} in": value for key, value in space.describe().items()},
        "rest": store.digest({"config": drop_keys(tree, IRRELEVANT_KEYS), "sources": sources_digest()}),
    }


def _search_folder(config: DictConfig, name: str) -> Path:
    """Return the folder of the sweep: the one on the command line, or one for this search among all sweeps."""
    place = Path(config.hydra.sweep.dir)
    named = any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in config.hydra.overrides.hydra)
    return place if named else place.parent / name


def _set_sweep_folder(config: DictConfig, folder: Path) -> None:
    """Set the folder of the sweep in Hydra, for this process and the processes of a launcher."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    with open_dict(config):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
    HydraConfig.instance().set_config(config)
