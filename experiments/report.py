"""Draw the report of a run, or of a sweep: `python -m experiments.report run=...`."""

from framework.cli.command import command


@command("report")
def main(config) -> None:
    """Draw a report."""
    from framework.cli.report import report  # loaded here, so that --help answers at once

    report(config)


if __name__ == "__main__":
    main()
