"""How long an insertion takes, and what a hook costs over calling the block by hand.

Run: ``python benchmarks/surgery.py``. Prints the two numbers that are bounded: seconds of an insertion into a host of
about 1000 modules beyond its probe (under 1), and the ratio of a forward pass with inserted blocks to one of the same
host whose code calls the same blocks (at most 1.03).
"""

import statistics
import time

import torch
from torch import Tensor, nn

from attnzoo.surgery import Order, Site, insert, probe, remove, select


class Block(nn.Module):
    """A residual block; with ``attention`` its code calls one by hand at the end of the branch."""

    def __init__(self, channels: int, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.attention is not None:
            y = self.attention(y)
        return self.relu(x + y)


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.squeeze(x.sum((2, 3)) / (x.shape[2] * x.shape[3])))
        return x * torch.sigmoid(self.excite(hidden))[:, :, None, None]


def host(depth: int, channels: int, by_hand: bool = False) -> nn.Module:
    torch.manual_seed(0)
    blocks = [Block(channels, Gate(channels) if by_hand else None) for _ in range(depth)]
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), *blocks).eval()


def make(site: Site) -> nn.Module:
    return Gate(site.channels)


def seconds(run, turns: int = 3) -> float:
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def insertion() -> None:
    """Compare an insertion with the probe alone, on a host of 1 001 modules."""
    model = host(167, 16)
    names = select(model, "class:Block.bn2")
    shape = (1, 3, 32, 32)

    def whole() -> None:
        insert(model, Order(make, "class:Block.bn2"), inputs=shape)
        remove(model)

    probe(model, names, shape)
    alone, both = seconds(lambda: probe(model, names, shape)), seconds(whole)
    print(f"modules {len(list(model.modules()))}, blocks inserted {len(names)}")
    print(f"probe {alone:.2f} s, insertion and removal beyond it {both - alone:.2f} s (bound: 1 s)")


def overhead(channels: int = 64, size: int = 32, depth: int = 8, runs: int = 60) -> None:
    """Compare hooks with calls by hand, in turn, on one host."""
    hooked, by_hand = host(depth, channels), host(depth, channels, by_hand=True)
    insert(hooked, Order(make, "class:Block.bn2"), inputs=(1, 3, size, size))
    x = torch.randn(8, 3, size, size)
    ratios, times = [], []
    with torch.no_grad():
        for turn in range(runs):
            pair = []
            for model in (hooked, by_hand) if turn % 2 else (by_hand, hooked):
                start = time.perf_counter()
                model(x)
                pair.append(time.perf_counter() - start)
            first, second = pair if turn % 2 else pair[::-1]
            ratios.append(first / second)
            times.append(second)
    low, median, high = statistics.quantiles(ratios[5:], n=4)
    print(f"forward by hand {1e3 * statistics.median(times):.1f} ms")
    print(f"hooked / by hand: median {median:.3f}, quartiles {low:.3f} to {high:.3f}")
    print(f"minima: {min(r * t for r, t in zip(ratios, times, strict=True)) / min(times):.3f} (bound: 1.03)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    insertion()
    overhead()
