"""Fit one forecaster, forecast the held-out subjects, evaluate, report: `python -m experiments.forecast`."""

from framework.cli.command import command


def together():
    """The function that runs many jobs at once."""
    from framework.sweeps.batched import together

    return together


@command("forecast", together)
def main(config) -> float:
    """Fit and test one forecaster."""
    from framework.runs.execute import forecast  # loaded here, so that --help answers at once

    return forecast(config)


if __name__ == "__main__":
    main()
