"""Read a cohort from tables and scans: `python -m experiments.ingest data=oasis2`."""

from framework.cli.command import command


@command("ingest")
def main(config) -> None:
    """Ingest and verify a cohort."""
    from framework.cli.cohort import ingest_cohort  # loaded here, so that --help answers at once

    ingest_cohort(config)


if __name__ == "__main__":
    main()
