"""Layer of the Visual Attention Network."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input, check_probability
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.drop_path import drop_path
from attnzoo_vision.spatial.van_attention import VANAttention


class VANBlock(nn.Module):
    """Add large kernel attention and then a convolutional MLP to the map, each of its norm and scaled per channel.

    ``y = x + s1 * attend(BN(x))``, ``z = y + s2 * W2 gelu(dw3x3(W1 BN(y)))``

    Args:
        channels: Channels of the input.
        mlp_ratio: Hidden channels of the MLP as a multiple of ``channels``.
        activation: What follows the depthwise convolution of the MLP.
        dropout: Probability of zeroing a value in the MLP, while training.
        drop_path: Probability of leaving a branch out for a sample, while training.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: The MLP has no hidden channel, the activation is unknown, or a probability is out of its
            range.

    Source:
        Guo et al., "Visual Attention Network", CVM 2023, arXiv:2202.09741, fig. 4.
        Authors' code: github.com/Visual-Attention-Network/VAN-Classification @ e19779b, models/van.py, class Block.
        Deviations: none. The scales start at 0.01.
    """

    def __init__(
        self,
        channels: int,
        *,
        mlp_ratio: float = 4.0,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("VANBlock", 1, channels=channels)
        hidden = int(channels * mlp_ratio)
        if hidden < 1:
            message = (
                f"VANBlock: mlp_ratio={mlp_ratio} leaves no hidden channel of channels={channels}; use a larger one"
            )
            raise ValueError(message)
        check_probability("VANBlock", dropout=dropout, drop_path=drop_path)
        self.activation = get_activation("VANBlock", activation)
        self.dropout = dropout
        self.drop_path = drop_path
        self.attention_norm = BatchNorm2d(channels)
        self.attend = VANAttention(channels)
        self.attention_scale = nn.Parameter(torch.empty(channels))
        self.mlp_norm = BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = nn.Conv2d(hidden, channels, 1)
        self.mlp_scale = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the authors do: normal with variance 2 / fan-out, biases zero, scales 0.01."""
        for part in (self.attention_norm, self.attend, self.mlp_norm):
            part.reset_parameters()
        for conv in (self.expand, self.depthwise, self.reduce):
            fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2.0 / fan_out))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        nn.init.constant_(self.attention_scale, 1e-2)
        nn.init.constant_(self.mlp_scale, 1e-2)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the map after attention and MLP."""
        check_input("VANBlock", x_nchw, self.channels)
        x_nchw = self._add(x_nchw, self.attend(self.attention_norm(x_nchw)), self.attention_scale)
        return self._add(x_nchw, self._mlp(self.mlp_norm(x_nchw)), self.mlp_scale)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``weight`` and ``attended`` of the attention, ``(N, C, H, W)``."""
        check_input("VANBlock", x_nchw, self.channels)
        return self.attend.attention(self.attention_norm(x_nchw))

    def _mlp(self, x_nchw: Tensor) -> Tensor:
        hidden_nrhw = self.activation(convolve(self.depthwise, convolve(self.expand, x_nchw)))
        y_nchw = convolve(self.reduce, F.dropout(hidden_nrhw, self.dropout, self.training))
        return F.dropout(y_nchw, self.dropout, self.training)

    def _add(self, x_nchw: Tensor, branch_nchw: Tensor, scale_c: Tensor) -> Tensor:
        scale_c11 = scale_c[:, None, None]
        if self.training and self.drop_path > 0:
            return x_nchw + drop_path(scale_c11 * branch_nchw, self.drop_path, self.training)
        return torch.addcmul(x_nchw, branch_nchw, scale_c11)
