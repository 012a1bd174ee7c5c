"""How long an insertion takes, and what a hook costs over calling the block by hand.

Run: ``python benchmarks/surgery.py``. Prints the two numbers that are bounded: seconds of an insertion into a host of
about 1000 modules beyond its probe (under 1), and the ratio of a forward pass with inserted blocks to one of the same
host whose code calls the same blocks (at most 1.03).
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnzoo.surgery import Order, Site, insert, inserted, probe, remove, select


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
    """Return the least CPU time of a few runs: the work is single-threaded, and other programs do not count."""
    times = []
    for _ in range(turns):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
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


def overhead(channels: int = 64, size: int = 56, batch: int = 8, runs: int = 400) -> None:
    """Compare a hooked site with the same block called by hand after the same module: only the call differs.

    Shapes are those of the first stage of a ResNet-50 at batch 8. The call costs microseconds, whatever the block: the
    smaller the block's work, the larger the ratio.
    """
    site, plain, x = nn.Identity(), nn.Identity(), torch.randn(batch, channels, size, size)
    insert(nn.Sequential(site), Order(make, "0"), inputs=x)
    block = inserted(site)[0].block
    hooked, by_hand = (lambda: site(x)), (lambda: block(plain(x)))
    print_ratio("one block", hooked, by_hand, runs)


def host_overhead(channels: int = 64, size: int = 32, depth: int = 8, runs: int = 40) -> None:
    """Compare whole hosts; two equal hosts that call by hand show how far the machine's noise goes."""
    hooked, by_hand, twin = host(depth, channels), host(depth, channels, True), host(depth, channels, True)
    insert(hooked, Order(make, "class:Block.bn2"), inputs=(1, 3, size, size))
    x = torch.randn(8, 3, size, size)
    print_ratio("host of 8 blocks", lambda: hooked(x), lambda: by_hand(x), runs)
    print_ratio("two equal hosts (noise)", lambda: twin(x), lambda: by_hand(x), runs)


def print_ratio(name: str, first: Callable[[], object], second: Callable[[], object], runs: int) -> None:
    """Time both in turn; print the ratio of their best times, and median and quartiles of the ratios turn by turn."""
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for turn in range(runs + 5):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                (first, second)[which]()
                times[which].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(times[0][5:], times[1][5:], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    best = min(times[0][5:]) / min(times[1][5:])
    more = 1e6 * (min(times[0][5:]) - min(times[1][5:]))
    print(f"{name}: by hand {1e3 * statistics.median(times[1][5:]):.3f} ms")
    print(f"  ratio of minima {best:.3f} ({more:+.0f} us); ratios turn by turn {median:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    torch.set_num_threads(1)
    insertion()
    overhead()
    host_overhead()
