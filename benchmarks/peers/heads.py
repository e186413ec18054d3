"""PyTorch peers of `benchmarks.heads`: GRU-D and minimalRNN as loops over time, and torch.nn.GRU."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import RATE, Contenders
from benchmarks.heads import FEATURES, TOKEN, inputs
from benchmarks.measure import cores
from benchmarks.peers.pytorch import DEVICE
from benchmarks.peers.pytorch import environment as environment  # called by the worker


class LibraryGRU(nn.Module):
    """torch.nn.GRU on values, masks and log(1 + dt)."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(2 * TOKEN + 1, FEATURES, batch_first=True)

    def forward(self, x: Tensor, observed: Tensor, gaps: Tensor) -> Tensor:
        return self.cell(torch.cat([x, observed, torch.log1p(gaps)[..., None]], -1))[0][:, -1]


class GRUD(nn.Module):
    """GRU-D (Che et al. 2018)."""

    def __init__(self):
        super().__init__()
        self.mean, self.offset = nn.Parameter(torch.zeros(TOKEN)), nn.Parameter(torch.zeros(TOKEN))
        self.decay = nn.Parameter(torch.full((TOKEN,), 0.1))
        self.state_decay = nn.Linear(TOKEN, FEATURES)
        self.gates, self.gates_state = _input_and_state_layers(2 * TOKEN, 2 * FEATURES)
        self.candidate, self.candidate_state = _input_and_state_layers(2 * TOKEN, FEATURES)

    def forward(self, x: Tensor, observed: Tensor, gaps: Tensor) -> Tensor:
        state, last, since = x.new_zeros(x.shape[0], FEATURES), self.mean, torch.zeros_like(x[:, 0])
        seen = torch.zeros_like(since)
        ahead = (torch.zeros_like(since), torch.zeros_like(since), torch.full_like(gaps[:, 0], 1 / 12))
        for now, mask, gap in (*zip(x.unbind(1), observed.unbind(1), gaps.unbind(1), strict=True), ahead):
            since = gap[:, None] + (1 - seen) * since
            fade = torch.exp(-functional.relu(self.decay * since + self.offset))
            filled = mask * now + (1 - mask) * (fade * last + (1 - fade) * self.mean)
            state = torch.exp(-functional.relu(self.state_decay(since))) * state
            fed = torch.cat([filled, mask], 1)
            reset, keep = torch.sigmoid(self.gates(fed) + self.gates_state(state)).chunk(2, 1)
            new = torch.tanh(self.candidate(fed) + self.candidate_state(reset * state))
            state = keep * state + (1 - keep) * new
            last, seen = torch.where(mask > 0, now, last), mask
        return state


class MinimalRNN(nn.Module):
    """MinimalRNN (Nguyen et al. 2020): a step per month, missing values filled by the forecast."""

    def __init__(self):
        super().__init__()
        self.change, self.enter = nn.Linear(FEATURES, TOKEN), nn.Linear(TOKEN, FEATURES)
        self.gate = nn.Linear(2 * FEATURES, FEATURES)

    def forward(self, x: Tensor, observed: Tensor, gaps: Tensor) -> Tensor:
        state, filled = x.new_zeros(x.shape[0], FEATURES), torch.zeros_like(x[:, 0])
        ahead = (torch.zeros_like(filled), torch.zeros_like(filled))  # the queried month, unobserved
        for now, mask in (*zip(x.unbind(1), observed.unbind(1), strict=True), ahead):
            filled = torch.where(mask > 0, now, filled + self.change(state))
            z = torch.tanh(self.enter(filled))
            gate = torch.sigmoid(self.gate(torch.cat([state, z], 1)))
            state = gate * state + (1 - gate) * z
        return torch.cat([state, filled], 1)


class Regression(nn.Module):
    """`benchmarks.heads.Regression` with a cell in PyTorch."""

    def __init__(self, cell: nn.Module, width: int):
        super().__init__()
        self.cell, self.out, self.dense = cell, nn.Linear(width + 2, FEATURES), nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor, observed: Tensor, gaps: Tensor, truth: Tensor) -> Tensor:
        state = self.cell(x, observed, gaps)
        ahead = torch.full_like(state[:, :1], 1 / 12)
        answer = self.dense(torch.tanh(self.out(torch.cat([state, ahead, torch.log1p(ahead)], 1))))
        return functional.mse_loss(answer[:, 0], truth)


def contenders(task: str, name: str, compiled: bool = False) -> Contenders:
    """Return the training step of a case, with fused Adam, for each way to run it."""
    head, length = name.split(" T=")
    cell, width = {
        "gru": (LibraryGRU, FEATURES),
        "gru_d": (GRUD, FEATURES),
        "minimal_rnn": (MinimalRNN, FEATURES + TOKEN),
    }[head]
    x, observed, times, truth = (torch.from_numpy(part).to(DEVICE) for part in inputs(int(length)))
    batch = x * observed, observed.float(), torch.diff(times, dim=1, prepend=times[:, :1]), truth
    calls, count = {}, 0
    for way in (False, True) if compiled else (False,):
        model = Regression(cell(), width).to(DEVICE)
        count = sum(parameter.numel() for parameter in model.parameters())
        run = torch.compile(model) if way else model
        for threads in sorted({1, cores()}):  # small products may be faster on one thread
            label = f"torch {'compiled' if way else 'eager'}, {threads} thread{'s' * (threads > 1)}"
            calls[label] = _step(model, run, batch, threads)
    return Contenders(calls, {"parameters": count})


def _step(model: nn.Module, run: Callable, batch: tuple[Tensor, ...], threads: int) -> Callable[[], None]:
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def step() -> None:
        torch.set_num_threads(threads)
        adam.zero_grad(set_to_none=True)
        run(*batch).backward()
        adam.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return step


def _input_and_state_layers(seen: int, out: int) -> tuple[nn.Linear, nn.Linear]:
    """Layers of the inputs, with bias, and of the state, without."""
    return nn.Linear(seen, out), nn.Linear(FEATURES, out, bias=False)
