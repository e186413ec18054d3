"""PyTorch peers of the networks of `benchmarks.networks`, with the same layers, written for speed.

Module and parameter names are those of `benchmarks.networks`, so that `load` can copy weights.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import CHANNELS, CLASSES, EMBEDDING, GROUPS, RESNET10, STATE, Case


class Plain(nn.Module):
    """`framework.nn.encoders.plain.Plain`."""

    def __init__(self, out_features: int):
        super().__init__()
        ins = (1, *CHANNELS[:-1])
        self.stages = nn.ModuleList([Stage(i, o) for i, o in zip(ins, CHANNELS, strict=True)])
        self.dense = nn.Linear(CHANNELS[-1], out_features)

    def forward(self, voxels: Tensor) -> Tensor:
        for stage in self.stages:
            voxels = stage(voxels)
        return self.dense(voxels.mean((2, 3, 4)))


class Stage(nn.Module):
    """Convolution of width 3, group normalisation, ReLU, max-pooling of 2."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv3d(c_in, c_out, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(functional.relu(self.norm(self.conv(x))), 2)


class ResNet10(nn.Module):
    """`framework.nn.encoders.resnet.ResNet` with a block in each stage."""

    def __init__(self, blocks: tuple[int, ...], width: int, groups: int, stem: int, stride: int, pool: int):
        super().__init__()
        outs = [width * 2**stage for stage in range(len(blocks))]
        ins = (width, *outs[:-1])
        self.pool = pool
        self.stem = nn.Conv3d(1, width, stem, stride, padding=stem // 2, bias=False)
        self.norm = nn.GroupNorm(groups, width)
        self.blocks = nn.ModuleList(
            [Block(i, o, groups, place) for place, (i, o) in enumerate(zip(ins, outs, strict=True))]
        )
        self.last = nn.GroupNorm(groups, outs[-1])
        self.dense = nn.Linear(outs[-1], CLASSES)

    def forward(self, voxels: Tensor) -> Tensor:
        x = functional.max_pool3d(functional.relu(self.norm(self.stem(voxels))), self.pool)
        for block in self.blocks:
            x = block(x)
        return self.dense(functional.relu(self.last(x)).mean((2, 3, 4)))


class Block(nn.Module):
    """Residual unit; the input of the first is already activated, and keeps its shape."""

    def __init__(self, c_in: int, c_out: int, groups: int, place: int):
        super().__init__()
        first, stride = place == 0, 1 if place == 0 else 2
        self.before = None if first else nn.GroupNorm(groups, c_in)
        self.one = nn.Conv3d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.between = nn.GroupNorm(groups, c_out)
        self.two = nn.Conv3d(c_out, c_out, 3, padding=1, bias=False)
        self.shortcut = None if first else nn.Conv3d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = x if self.before is None else functional.relu(self.before(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.two(functional.relu(self.between(self.one(active))))


class Series(nn.Module):
    """`benchmarks.networks.Series`."""

    def __init__(self, case: Case):
        super().__init__()
        self.encoder = Plain(EMBEDDING)
        self.cell = GRU(EMBEDDING)
        self.dense = nn.Linear(STATE, 1)
        self.shape = case.scans // case.visits, case.visits

    def forward(self, voxels: Tensor, times: Tensor) -> Tensor:
        tokens = self.encoder(voxels).view(*self.shape, EMBEDDING)
        return self.dense(self.cell(tokens, times, times[:, -1] + 1))[:, 0]


class GRU(nn.Module):
    """`framework.nn.heads.gru.GRU`; torch.nn.GRU resets after its product and has no time input."""

    def __init__(self, d_in: int):
        super().__init__()
        self.gates = nn.Linear(2 * d_in + 1 + STATE, 2 * STATE)
        self.candidate = nn.Linear(2 * d_in + 1 + STATE, STATE)
        self.out = nn.Linear(STATE + 2, STATE)

    def forward(self, tokens: Tensor, times: Tensor, query_time: Tensor) -> Tensor:
        state = tokens.new_zeros(tokens.shape[0], STATE)
        gaps = torch.diff(times, dim=1, prepend=times[:, :1])
        for x, gap in zip(tokens.unbind(1), gaps.unbind(1), strict=True):
            seen = torch.cat([x, torch.ones_like(x), torch.log1p(gap)[:, None]], 1)
            reset, keep = torch.sigmoid(self.gates(torch.cat([seen, state], 1))).chunk(2, 1)
            candidate = torch.tanh(self.candidate(torch.cat([seen, reset * state], 1)))
            state = keep * state + (1 - keep) * candidate
        ahead = (query_time - times[:, -1])[:, None]
        return torch.tanh(self.out(torch.cat([state, ahead, torch.log1p(ahead)], 1)))


def network(case: Case) -> nn.Module:
    """Return the module of a case, in the memory format that is fastest for oneDNN and cuDNN."""
    match case.network:
        case "plain":
            module: nn.Module = Plain(CLASSES)
        case "series":
            module = Series(case)
        case "resnet10":
            module = ResNet10(**RESNET10)
        case _:
            raise ValueError(f"no network {case.network!r}")
    return module.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue] its stubs lack this


def batch(case: Case, device: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the inputs and targets of a case."""
    voxels = torch.from_numpy(case.voxels()).permute(0, 4, 1, 2, 3)
    inputs = (voxels.contiguous(memory_format=torch.channels_last_3d).to(device),)
    if case.network == "series":
        return (*inputs, torch.from_numpy(case.times()).to(device)), torch.from_numpy(case.values()).to(device)
    return inputs, torch.from_numpy(case.labels()).to(device)


def loss(answer: Tensor, truth: Tensor) -> Tensor:
    """Return the cross-entropy of classes or the squared error of numbers."""
    if answer.ndim == 1:
        return functional.mse_loss(answer, truth)
    return functional.cross_entropy(answer, truth)


def load(module: nn.Module, params: Mapping[str, np.ndarray]) -> None:
    """Load Prognax's parameters, named by their path (`stages/0/weights`)."""
    state = {torch_name(name): torch.from_numpy(to_torch_layout(value)) for name, value in params.items()}
    module.load_state_dict(state)


def torch_name(name: str) -> str:
    """Return the name in PyTorch of a parameter of Prognax."""
    stem, _, leaf = name.replace("/", ".").replace("head.cell.", "cell.").rpartition(".")
    if ".stages." in f".{stem}":
        stem += ".conv" if leaf == "weights" else ".norm"
    return f"{stem}.{'bias' if leaf == 'bias' else 'weight'}"


def to_torch_layout(value: np.ndarray) -> np.ndarray:
    """Return a parameter with its axes in the order of PyTorch: outputs, inputs, space."""
    order = (value.ndim - 1, value.ndim - 2, *range(value.ndim - 2)) if value.ndim > 1 else (0,)
    return np.array(value.transpose(order))
