"""A gate for every pixel."""

import torch
from torch import Tensor, nn


class BrightnessGate(nn.Module):
    """Scale every pixel by a weight computed from its channels: ``y = 2 x sigmoid(w . x + b)``."""

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"BrightnessGate: channels={channels}, expected at least 1")
        self.score = nn.Conv2d(channels, 1, 1, bias=bias)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        return {"pixel": torch.sigmoid(self.score(x_nchw))}

    def forward(self, x_nchw: Tensor) -> Tensor:
        return 2 * x_nchw * self.attention(x_nchw)["pixel"]
