"""One search under Hydra, top to bottom."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict

from framework.errors import UserError
from framework.runs.folder import sources_digest
from framework.runs.identity import FREE, without
from framework.sweeps.search.settings import Settings

try:
    import optuna

    from framework.sweeps.search import store
    from framework.sweeps.search.objectives import values
    from framework.sweeps.search.search import Search, Values, summary
    from framework.sweeps.search.space import Space
except ModuleNotFoundError as absent:
    raise UserError(f"hydra/sweeper=optuna needs {absent.name}; pip install 'prognax[search]'") from None


def sweep(sweeper, arguments: Sequence[str]) -> None:
    """Search over what the command line and `hydra.sweeper.params` say."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, config, context = sweeper.settings, sweeper.config, sweeper.hydra_context
    parse = OverridesParser.create(config_loader=context.config_loader).parse_overrides
    told = [*(f"{key}={value}" for key, value in settings.params.items()), *arguments]
    space = Space.of(parse(told), parse(list(settings.repeat)))
    what = _what(space, settings, config)
    folder = _folder(config, store.digest(what))
    _settle(config, folder)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=sweeper.task, config=config)
    sweeper.validate_batch_is_legal(list(space.samples()))

    def launch(jobs: Sequence[Sequence[str]], first: int) -> list[Values]:
        returned = launcher.launch(jobs, initial_job_idx=first)
        return [values(one.return_value, settings.objectives) for one in returned]

    file = Path((settings.storage or str(folder / store.FILE)).removeprefix("sqlite:///"))
    with store.opened(file, what, len(settings.objectives)) as study:
        Search(study, space, settings, launch).run()
        print(summary(study, space))


def _what(space: Space, settings: Settings, config: DictConfig) -> dict[str, object]:
    """All that decides which trials there are, but for how many; `rest` is the configuration and the code beside."""
    told = {key: value for key, value in asdict(settings).items() if key not in ("trials", "storage", "params")}
    rest = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"]))
    assert isinstance(rest, dict)
    tree = {str(key): value for key, value in rest.items()}
    return {
        **told,
        **{f"{key} in": value for key, value in space.told().items()},
        "rest": store.digest({"config": without(tree, FREE), "sources": sources_digest()}),
    }


def _folder(config: DictConfig, name: str) -> Path:
    """Where the sweep's lines go: the place named on the command line, or the search's own among all sweeps."""
    place = Path(config.hydra.sweep.dir)
    named = any(one.lstrip("+").startswith("hydra.sweep.dir=") for one in config.hydra.overrides.hydra)
    return place if named else place.parent / name


def _settle(config: DictConfig, folder: Path) -> None:
    """Have Hydra keep the sweep there, in this process and in those that a launcher starts."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    with open_dict(config):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
    HydraConfig.instance().set_config(config)
