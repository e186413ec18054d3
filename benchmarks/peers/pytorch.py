"""PyTorch peers of `step` and `inference`: eager and compiled, both timed; the faster one counts."""

import platform
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.cases import CASES, RATE, Contenders
from benchmarks.measure import cores
from benchmarks.peers.torch_networks import batch, loss, network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COMPILED = "torch compiled"


class Objective(nn.Module):
    """A network with its loss, compiled together."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, inputs: tuple[Tensor, ...], truth: Tensor) -> Tensor:
        return loss(self.inner(*inputs), truth)


def contenders(task: str, name: str, compiled: bool = True) -> Contenders:
    """Return each way of running the task on the case."""
    make = training_step if task == "step" else forward_pass
    ways = (False, True) if compiled else (False,)
    return Contenders({COMPILED if way else "torch eager": make(name, way) for way in ways}, {})


def training_step(name: str, compiled: bool) -> Callable[[], None]:
    """Return a training step with fused Adam."""
    case = CASES[name]
    inputs, truth = batch(case, DEVICE)
    objective: nn.Module = Objective(network(case).to(DEVICE))
    adam = torch.optim.Adam(objective.parameters(), lr=RATE, fused=True)
    run = torch.compile(objective) if compiled else objective

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        run(inputs, truth).backward()
        adam.step()
        _wait()

    return step


def forward_pass(name: str, compiled: bool) -> Callable[[], None]:
    """Return a forward pass; compiled, its weights are frozen, so that their layout is chosen beforehand."""
    case = CASES[name]
    inputs, _ = batch(case, DEVICE)
    plain = network(case).to(DEVICE).eval()
    run = torch.compile(plain, options={"freezing": True}) if compiled else plain

    def forward() -> None:
        with torch.inference_mode() if not compiled else torch.no_grad():
            run(*inputs)
        _wait()

    return forward


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _settings() -> Iterator[str]:
    torch.set_num_threads(cores())
    yield f"{cores()} threads"
    if DEVICE == "cuda":  # as XLA multiplies by default
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        yield "TF32, cudnn.benchmark"


def environment() -> dict:
    """Return the device, the version and the settings for speed."""
    settings = ", ".join(_settings())
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine()
    return {"device": device, "versions": {"torch": torch.__version__}, "settings": settings}
