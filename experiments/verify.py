"""Compare a cohort with what was written, and with its source files: `python -m experiments.verify data=oasis2`."""

from framework.cli.command import command


@command("verify")
def main(config) -> None:
    """Verify a cohort."""
    from framework.cli.cohort import verify_cohort  # loaded here, so that --help answers at once

    verify_cohort(config)


if __name__ == "__main__":
    main()
