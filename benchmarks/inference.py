"""Time of a forward pass, beside PyTorch, for the networks and batches of `benchmarks.step`.

    python -m benchmarks.inference [--peers] [--plain] [--cases 64³×4 series]

The ratio is PyTorch's time, eager or compiled with frozen weights, whichever is shorter, over ours. Writes
results/inference-<device>.json; with --plain, results/inference-<device>-plain.json.
"""

from benchmarks.paired_timing import main

if __name__ == "__main__":
    main("inference", [], "Times of forward passes.")
