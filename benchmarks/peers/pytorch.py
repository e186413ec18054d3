"""PyTorch at its best, as the stopwatch needs it: eager and compiled, both timed, the faster one counts."""

import platform
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.cases import CASES, RATE, Contenders
from benchmarks.measure import cores
from benchmarks.peers.torch_networks import given, loss, network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COMPILED = "torch compiled"


class Objective(nn.Module):
    """The network with its loss, so that a compiler sees both."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, fed: tuple[Tensor, ...], truth: Tensor) -> Tensor:
        return loss(self.inner(*fed), truth)


def contenders(task: str, name: str, compiled: bool = True) -> Contenders:
    """Each way of running the task on the case."""
    make = stepping if task == "step" else answering
    ways = (False, True) if compiled else (False,)
    return Contenders({COMPILED if way else "torch eager": make(name, way) for way in ways}, {})


def stepping(name: str, compiled: bool) -> Callable[[], None]:
    """One step of training: gradients of the loss, Adam in one fused kernel."""
    case = CASES[name]
    fed, truth = given(case, DEVICE)
    objective: nn.Module = Objective(network(case).to(DEVICE))
    adam = torch.optim.Adam(objective.parameters(), lr=RATE, fused=True)
    run = torch.compile(objective) if compiled else objective

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        run(fed, truth).backward()
        adam.step()
        _wait()

    return step


def answering(name: str, compiled: bool) -> Callable[[], None]:
    """One forward pass, weights frozen where it is compiled so that their layout is chosen beforehand."""
    case = CASES[name]
    fed, _ = given(case, DEVICE)
    plain = network(case).to(DEVICE).eval()
    run = torch.compile(plain, options={"freezing": True}) if compiled else plain

    def answer() -> None:
        with torch.inference_mode() if not compiled else torch.no_grad():
            run(*fed)
        _wait()

    return answer


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
    """The device, the version, and what was set for speed."""
    settings = ", ".join(_settings())
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine()
    return {"device": device, "versions": {"torch": torch.__version__}, "settings": settings}
