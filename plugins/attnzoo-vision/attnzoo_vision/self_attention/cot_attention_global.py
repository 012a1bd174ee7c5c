"""Contextual attention as a popular port of the contextual transformer has it: weights over all positions."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.checks import check_input, check_multiple, check_odd
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.convolution import convolve_by


class CoTAttentionGlobal(nn.Module):
    """Scale values by a softmax over all positions that is made from the pixel and its context; add the context.

    ``k = relu(norm(conv_k x))``, ``m = mean_tap(W2 relu(norm(W1 [k, x])))``, ``y = k + softmax_hw(m) * norm(V x)``

    A mean of linear maps is one: the weights of the taps are averaged, their ``kernel_size ** 2`` maps are not made.

    Args:
        channels: Channels of input and output, divisible by 4.
        kernel_size: Size of the context convolution, an odd number; W2 has its square of outputs for each channel.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is not divisible by 4, or ``kernel_size`` is even.

    Source:
        After Li et al., "Contextual Transformer Networks for Visual Recognition", TPAMI 2022, arXiv:2107.12292, as in
        github.com/xmu-xiaoma666/External-Attention-pytorch @ d75848e, model/attention/CoTAttention.py.
        Deviations: none from that code, which is not the paper's layer. The bias of W2 cancels in the softmax and is
        kept because checkpoints hold it.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        check_multiple("CoTAttentionGlobal", 4, channels=channels)
        check_odd("CoTAttentionGlobal", kernel_size=kernel_size)
        self.context = ConvNorm(channels, channels, kernel_size=kernel_size, groups=4, relu=True)
        self.embed = ConvNorm(2 * channels, channels // 2, relu=True)
        self.weight = nn.Conv2d(channels // 2, kernel_size**2 * channels, 1)
        self.value = ConvNorm(channels, channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the static context plus the weighted values."""
        check_input("CoTAttentionGlobal", x_nchw, self.channels)
        context_nchw: Tensor = self.context(x_nchw)
        return torch.addcmul(context_nchw, self._weights(x_nchw, context_nchw), self.value(x_nchw))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``positions``, the weight of each position; those of a channel sum to 1."""
        check_input("CoTAttentionGlobal", x_nchw, self.channels)
        return {"positions": self._weights(x_nchw, self.context(x_nchw))}

    def _weights(self, x_nchw: Tensor, context_nchw: Tensor) -> Tensor:
        hidden_nrhw = self.embed(torch.cat([context_nchw, x_nchw], dim=1))
        weight, bias = affine(self.weight, same=True).filled()
        taps = (x_nchw.shape[1], -1)
        logits_nchw = convolve_by(
            hidden_nrhw, weight.unflatten(0, taps).mean(dim=1), bias.unflatten(0, taps).mean(dim=1)
        )
        weight_ncl = torch.softmax(logits_nchw.flatten(2), dim=2)
        return torch.unflatten(weight_ncl, 2, x_nchw.shape[2:])
