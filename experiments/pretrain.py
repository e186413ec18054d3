"""Train image encoders by reconstructing scans, before anything is forecast: `python -m experiments.pretrain`."""

from framework.cli.command import command


@command("pretrain")
def main(config) -> float:
    """Pretrain the encoders of all modalities."""
    from framework.runs.pretrain import pretrain  # loaded here, so that --help answers at once

    return pretrain(config)


if __name__ == "__main__":
    main()
