"""Search for leaks in a cohort, a split and a forecaster: `python -m experiments.probe`."""

from framework.cli.command import command


@command("probe")
def main(config) -> None:
    """Search for leaks."""
    from framework.cli.probe import probe  # loaded here, so that --help answers at once

    probe(config)


if __name__ == "__main__":
    main()
