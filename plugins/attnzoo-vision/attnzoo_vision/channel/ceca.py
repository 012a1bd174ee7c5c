"""Circular Efficient Channel Attention."""

from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.activation import Gate, get_gate
from attnzoo_vision.ops.channel_window import adaptive_kernel_size, check_circular, filter_channels
from attnzoo_vision.ops.checks import check_at_least, check_input, check_odd
from attnzoo_vision.ops.pooling import global_mean


class CECA(nn.Module):
    """Scale each channel by a weight from the means of the channels next to it, the last next to the first.

    ``y = x * gate(circular_conv_k(mean_hw(x)) + b)``

    Args:
        channels: Channels of the input. It sets default and bound of ``kernel_size``; the block takes any number from
            half of ``kernel_size`` on.
        kernel_size: Number of neighbouring channels that a weight depends on, odd; by default ECA's rule, at least 3.
        bias: Add one bias to all logits.
        gate: What follows the filter.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``kernel_size`` is even or above ``2 channels + 1`` (of the input, too), ``channels`` is less than
            1, or a gate is not known.

    Source:
        No paper: a variant of ECA (arXiv:1910.03151) by Chris Ha and Ross Wightman.
        Code: github.com/huggingface/pytorch-image-models @ 1.0.31, timm/layers/eca.py, ``CecaModule``.
        Deviations: ``bias`` for their ``act_layer``, which switches the bias on and is otherwise without effect.
    """

    def __init__(
        self, channels: int, *, kernel_size: int | None = None, bias: bool = False, gate: Gate = "sigmoid"
    ) -> None:
        super().__init__()
        check_at_least("CECA", 1, channels=channels)
        taps = max(3, adaptive_kernel_size(channels)) if kernel_size is None else kernel_size
        check_odd("CECA", kernel_size=taps)
        check_circular("CECA", channels, taps)
        self.kernel_size = taps
        self.gate = get_gate("CECA", gate)
        self.conv = nn.Conv1d(1, 1, taps, bias=bias)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("CECA", x_nchw)
        weight_11k, bias_1 = affine(self.conv)
        logit_nc = filter_channels(global_mean(x_nchw), weight_11k.flatten(), circular="CECA")
        if bias_1 is not None:
            logit_nc = logit_nc + bias_1
        return self.gate(logit_nc)[:, :, None, None]
