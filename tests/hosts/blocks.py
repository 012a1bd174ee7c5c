"""Blocks without a plugin, and one-line insertions, for the tests of surgery."""

import torch
from torch import Tensor, nn

from attnzoo.surgery import Inserted, Order, Report, Site, insert
from hosts import SITES


class Gate(nn.Module):
    """Scales every channel of a map; far from the identity when new."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(x.mean((2, 3), keepdim=True)))


class TokenGate(nn.Module):
    """The same for tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(x.mean(1, keepdim=True)))


class Narrow(nn.Module):
    """Halves the channels: never fits."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Add(nn.Module):
    """Adds a number, times a factor: shows in which order blocks run."""

    def __init__(self, number: float, factor: float = 1.0) -> None:
        super().__init__()
        self.number, self.factor = number, factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.number


def gate(site: Site) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Gate(site.channels)


def order(name: str, /, **changes: object) -> Order:
    """Return an order for a Gate at the usual sites of a host."""
    defaults: dict[str, object] = {"make": gate, "at": SITES[name], "view": "map"}
    return Order(**{**defaults, **changes})


def put(host: nn.Module, name: str, /, **changes: object) -> Report:
    return insert(host, order(name, **changes))


def wake(host: nn.Module) -> None:
    """Open every identity gate, so that the blocks change the output."""
    for module in host.modules():
        if isinstance(module, Inserted) and module.gate is not None:
            nn.init.constant_(module.gate, 0.5)
