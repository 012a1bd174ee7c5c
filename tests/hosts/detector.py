import torch
from torch import Tensor, nn


class Conv(nn.Module):
    def __init__(self, channels_in: int, channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


class C2f(nn.Module):
    """Cross-stage partial stage of YOLOv8."""

    def __init__(self, channels: int, depth: int = 1) -> None:
        super().__init__()
        self.half = channels // 2
        self.cv1 = Conv(channels, channels)
        self.m = nn.ModuleList(Bottleneck(self.half) for _ in range(depth))
        self.cv2 = Conv(self.half * (2 + depth), channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).split((self.half, self.half), 1))
        for layer in self.m:
            parts.append(layer(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Stage(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = Conv(channels_in, channels, 3, 2)
        self.c2f = C2f(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.c2f(self.down(x))


class Head(nn.Module):
    """One prediction a cell; keeps the grid of the last size on itself, as detectors do."""

    def __init__(self, channels: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.cv = nn.ModuleList(nn.Conv2d(size, outputs, 1) for size in channels)
        self.shape: tuple[int, ...] | None = None
        self.anchors = torch.empty(0)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        maps = [cv(level) for cv, level in zip(self.cv, levels, strict=True)]
        flat = torch.cat([x.flatten(2) for x in maps], 2)
        if self.training:
            return flat, maps
        if self.shape != flat.shape or self.anchors.dtype != flat.dtype:
            self.anchors = torch.arange(flat.shape[-1], device=flat.device, dtype=flat.dtype)
            self.shape = flat.shape
        return flat + self.anchors, maps


class Detector(nn.Module):
    """A detector in the manner of YOLOv8: stages of C2f, predictions at three of them."""

    def __init__(self, outputs: int = 6) -> None:
        super().__init__()
        self.stem = Conv(3, 8, 3, 2)
        self.stages = nn.ModuleList([Stage(8, 16), Stage(16, 32), Stage(32, 32)])
        self.head = Head((16, 32, 32), outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return self.head(levels)
