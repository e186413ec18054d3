"""Keys and values of earlier versions, and the names that replaced them."""

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

from framework.errors import UserError

OLD_KEYS: Mapping[str, str] = {  # by dotted key; `*` stands for all before the last part
    "action": "the command experiments.verify",
    "ask": "task",
    "fewer": "repeats_per_model",
    "settings": "model_overrides",
    "accept": "allow_leaks",
    "existing": "if_exists",
    "truth": "ground_truth",
    "known": "future",
    "submission": "tadpole_submission",
    "hosts.coordinator": "hosts.coordinator_address",
    "hosts.processes": "hosts.num_processes",
    "hosts.process": "hosts.process_id",
    "optimizer.learning_rate": "training.optimizer.learning_rate",
    "optimizer.weight_decay": "training.optimizer.weight_decay",
    "optimizer.warmup": "training.optimizer.warmup",
    "optimizer.clip": "training.optimizer.max_grad_norm",
    "optimizer.schedule": "training.optimizer.schedule",
    "optimizer.round": "training.eval_every",
    "optimizer.economy.compute": "training.memory.compute_dtype",
    "optimizer.economy.at_once": "training.memory.remat_chunk",
    "optimizer.economy": "training.memory",
    "optimizer": "training",
    "training.learning_rate": "training.optimizer.learning_rate",
    "training.weight_decay": "training.optimizer.weight_decay",
    "training.warmup": "training.optimizer.warmup",
    "training.clip": "training.optimizer.max_grad_norm",
    "training.round": "training.eval_every",
    "training.economy.compute": "training.memory.compute_dtype",
    "training.economy.at_once": "training.memory.remat_chunk",
    "training.economy": "training.memory",
    "*.transforms*.share": "*.probability",
    "*.share": "*.fraction",
    "*.count": "*.num_members",
    "*.weigh": "*.weight_by",
    "*.prepared": "*.standardize",
    "*.indicators": "*.missing_indicators",
    "*.drifts": "*.trend",
    "*.trends": "*.random_slopes",
    "*.known": "*.future_covariates",
    "*.unit": "*.time_unit_years",
    "*.fastest": "*.min_time_constant",
    "*.slowest": "*.max_time_constant",
    "*.gigabytes": "*.max_memory_gb",
    "*.plus_time": "*.baseline_plus_elapsed",
    "*.as_time": "*.is_event_time",
    "*.falls": "*.direction",
    "*.within": "*.resolution_years",
}
COLUMN_KEYS = ("*.variables.*.plus_time", "*.static.*.as_time", "*.static.*.plus_time")  # read by no class
OLD_VALUES: Mapping[str, Mapping[str, str]] = {  # by the dotted key of today
    "task": {"later": "future_visits", "next": "next_visit", "now": "current_visit", "ahead": "unlabelled"},
    "split": {"leaderboard": "tadpole_leaderboard"},
    "origins": {"leaderboard": "tadpole_leaderboard"},
    "*._target_": {
        "framework.data.queries.events.Reaches": "framework.data.queries.events.ThresholdReached",
        "framework.data.queries.events.Dated": "framework.data.queries.events.RecordedEvent",
        "framework.train.memory.Economy": "framework.train.memory.MemoryOptions",
        "framework.train.mesh.Single": "framework.train.mesh.SingleDevice",
        "framework.train.mesh.Data": "framework.train.mesh.DataParallel",
        "framework.train.mesh.Fsdp": "framework.train.mesh.FullyShardedDataParallel",
    },
    "*.weight_by": {"pair": "query"},
    "*.roles": {"known_ahead": "future"},
    "allow_leaks": {
        "two ids": "two_ids",
        "duplicate voxels": "duplicate_voxels",
        "near duplicates": "near_duplicates",
        "later visits": "later_visits",
        "later labels": "later_labels",
        "visit count": "visit_count",
    },
}


def _new_key(key: str) -> str | None:
    """Return the name of today of a key of an earlier version; None for any other key.

    A key within a renamed part has its whole new name. Groups have slashes instead of dots.
    """
    parts = key.replace("/", ".").split(".")
    for count in range(len(parts), 0, -1):
        place, rest = ".".join(parts[:count]), parts[count:]
        for old, new in OLD_KEYS.items():
            if fnmatchcase(place, old):
                return ".".join([new.replace("*", ".".join(parts[: count - 1])), *rest])
    return None


def replaced(key: str, parameters: Collection[str] | None = None) -> str | None:
    """Return the message on a key of an earlier version; None for any other key.

    The new key of an argument must be among the `parameters` of its target: others may have had the old name for
    something else.
    """
    new = _new_key(key)
    if new is None:
        return None
    argument = new.removeprefix(f"{key.rpartition('.')[0]}.").split(".")[0]
    if parameters is not None and argument not in parameters:
        return None
    return f"the key {key!r} of an earlier version was replaced: use {new}"


def replaced_value(key: str, value: object) -> str | None:
    """Return the message on a value, or an option of a group, of an earlier version; None for any other."""
    place = key.replace("/", ".")
    for pattern, values in OLD_VALUES.items():
        if isinstance(value, str) and value in values and fnmatchcase(place, pattern):
            return f"the value {key}={value} of an earlier version was replaced: use {key}={values[value]}"
    return None


def require_current(tree: Mapping) -> None:
    """Raise UserError where a configuration has a value, or describes a column by a key, of an earlier version."""
    for key, value in sorted(_leaves(tree, ""), key=lambda leaf: leaf[0].count(".")):  # what refers to a part is deeper
        message = replaced_value(key, value)
        if message is None and any(fnmatchcase(key, pattern) for pattern in COLUMN_KEYS):
            message = replaced(key)
        if message is not None:
            raise UserError(message)


def _leaves(node: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield every value with its dotted key; the items of a list have the key of the list."""
    if isinstance(node, list):
        for item in node:
            yield from _leaves(item, place)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    else:
        yield place, node
