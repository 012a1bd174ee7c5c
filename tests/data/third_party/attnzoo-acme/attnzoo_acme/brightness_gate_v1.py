"""The gate as it was first published."""

from torch import Tensor

from attnzoo_acme.brightness_gate import BrightnessGate


class BrightnessGateV1(BrightnessGate):
    """Scale every pixel by a weight computed from its channels: ``y = x sigmoid(w . x + b)``."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        return x_nchw * self.attention(x_nchw)["pixel"]
