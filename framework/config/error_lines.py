"""One line for each error that a user can fix, whichever library raised it."""

import re
import sys
import traceback
from importlib.resources import files
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.config.old_keys import replaced, replaced_value
from framework.config.quoting import find_unquoted_paths
from framework.errors import UserError, suggest


def explain(error: BaseException, config_name: str) -> str | None:
    """Return one line for an error that the user can fix, None for a fault of the program."""
    chain, visited = [error], {id(error)}
    while (cause := chain[-1].__cause__) is not None and id(cause) not in visited:  # what it was raised from
        chain.append(cause)
        visited.add(id(cause))
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    for link in chain:
        if isinstance(link, (HydraException, OmegaConfBaseException)):
            return _config_error(link, chain, config_name)
    if isinstance(error, (ValueError, TypeError)) and _raised_by_hydra(error):
        return f"config: {' '.join(str(error).split())}; check the overrides on the command line"
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f": {error.filename}"
        return f"{error.strerror}{place}; check the path, its permissions and the space left"
    return None


def _raised_by_hydra(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").startswith(("hydra.", "omegaconf."))


def _config_error(error: BaseException, chain: list[BaseException], config_name: str) -> str:
    text = " ".join(" ".join(str(link).split()) for link in chain[:1])
    if misspelt := re.search(r"Could not override '([^']+)'", text):
        key = misspelt[1]
        if answer := replaced(key):
            return answer
        keys = _config_keys(config_name)
        if key in keys:  # a mapping, into which Hydra puts a new entry only on request
            return f"{key!r} has no such entries yet; add them one by one: +{key}.<name>=..."
        suggestion = suggest(key, keys, "see --help for the keys there are")
        return f"no key {key!r} in the config of this command; {suggestion}"
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if answer := replaced(group) or replaced_value(group, name):
            return answer
        if error.options:
            options = f"Available options in '{group}': {', '.join(error.options)}"
            return f"config: Could not find '{group}/{name}'; {suggest(name, error.options, '')} {options}"
    if quotes := find_unquoted_paths(sys.argv[1:]):
        return (
            f"config: a path has characters with a meaning to Hydra; quote it for Hydra and for the shell: {quotes[0]}"
        )
    return f"config: {text.split(' full_key:')[0].split(' Config search path:')[0]}"


def _config_keys(config_name: str) -> list[str]:
    """Return every dotted key of the config with the groups that the command line chose, for suggestions."""
    arguments = get_args_parser().parse_known_args(sys.argv[1:])[0]
    folders = [] if arguments.config_dir is None else [Path(arguments.config_dir).absolute()]
    chosen = [
        word
        for word in arguments.overrides
        if "=" in word
        and "," not in word
        and any(root.joinpath(word.split("=")[0]).is_dir() for root in (files("conf"), *folders))
    ]
    search_path = [f"hydra.searchpath=['{folder.as_uri()}']" for folder in folders]
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        tree = OmegaConf.to_container(compose(config_name, [*search_path, *chosen]), resolve=False)

    def walk(node: object, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        keys = [f"{prefix}{key}" for key in node]
        return keys + [inner for key, value in node.items() for inner in walk(value, f"{prefix}{key}.")]

    return walk(tree, "")
