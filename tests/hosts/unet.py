import torch
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """A U-Net that returns a dict; its stages are ``Sequential``."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList([DoubleConv(3, 16), DoubleConv(16, 32)])
        self.bottom = DoubleConv(32, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
        self.decoder = nn.ModuleList([DoubleConv(64, 32), DoubleConv(32, 16)])
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        features = x
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), dim=1))
        return {"out": self.head(x), "features": features}
