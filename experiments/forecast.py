"""Fit one forecaster, forecast the held-out subjects, evaluate, report: `python -m experiments.forecast`."""

from framework.cli.command import command


def load_batch_runner():
    """Return the function that runs many jobs at once."""
    from framework.sweeps.batched import run_batched

    return run_batched


@command("forecast", load_batch_runner)
def main(config) -> float:
    """Fit and test one forecaster."""
    from framework.runs.execute import forecast  # loaded here, so that --help answers at once

    return forecast(config)


if __name__ == "__main__":
    main()
