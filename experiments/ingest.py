"""Bring a cohort in: `python -m experiments.ingest data=oasis2`."""

from framework.launch.command import command


@command("ingest")
def main(config) -> None:
    from framework.launch.ingest import ingest

    ingest(config)


if __name__ == "__main__":
    main()
