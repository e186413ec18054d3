"""Scores of a TADPOLE submission against D4: `python -m experiments.tadpole_score`."""

from framework.cli.command import command


@command("tadpole_score")
def main(config) -> None:
    """Score a submission."""
    from framework.tadpole.submission import evaluate  # loaded here, so that --help answers at once

    evaluate(config)


if __name__ == "__main__":
    main()
