"""Several forecasters on the same folds, one leaderboard: `python -m experiments.compare`."""

from framework.cli.command import command


@command("compare")
def main(config) -> float:
    """Compare forecasters."""
    from framework.runs.execute import compare  # loaded here, so that --help answers at once

    return compare(config)


if __name__ == "__main__":
    main()
