"""Apply a saved run to new patients: `python -m experiments.predict run=... data=...`."""

from framework.cli.command import command


@command("predict")
def main(config) -> None:
    """Forecast new patients."""
    from framework.runs.predict import predict  # loaded here, so that --help answers at once

    predict(config)


if __name__ == "__main__":
    main()
