"""Devices, kernels, extras and caches, and what would make this machine faster: `python -m experiments.doctor`."""

from framework.cli.command import command


@command("doctor")
def main(config) -> None:
    """Examine this machine."""
    from framework.cli.doctor import examine  # loaded here, so that --help answers at once

    examine(config)


if __name__ == "__main__":
    main()
