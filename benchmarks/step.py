"""Time of a training step, beside PyTorch.

    python -m benchmarks.step [--peers] [--plain] [--cases 64³×4 series]

`32³×16`, `64³×4`, `96³×2`: the plain CNN (channels 1-16-32-64-128, convolution 3³, GroupNorm of 8, ReLU, max-pool 2,
global mean, ten classes), with Adam. `series`: that CNN on four visits of four subjects at 48³, a GRU over the visits,
squared error. `resnet10`: ResNet-10 on four scans of 64³. The ratio is PyTorch's time, eager or compiled, whichever
is shorter, over ours. `vmap`: eight models trained in one vmapped step; its ratio is the time of eight single steps
over that, and does not count in that of the benchmark.

Writes results/step-<device>.json; with --plain, results/step-<device>-plain.json.
"""

from benchmarks.paired_timing import main

if __name__ == "__main__":
    main("step", ["vmap"], "Times of training steps.")
