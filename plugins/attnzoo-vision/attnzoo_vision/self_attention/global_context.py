"""Global context block (GCNet)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.activation import Activation, Gate, get_activation, get_gate
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.position_pooling import position_weights, weighted_sum


class GlobalContext(nn.Module):
    """Add to every position, or scale it by, a vector made from the attention-weighted mean of all positions.

    ``c = x @ softmax_l(w x)``; ``t(c) = W2 relu(layer_norm(W1 c))``;
    ``y = x * sigmoid(t_scale(c)) + t_add(c)``, of which ``fusion`` keeps one term or both

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of hidden units (rounded down, at least 1).
        hidden_channels: Number of hidden units; replaces ``reduction``.
        pooling: How the context is pooled: ``attention`` over positions, or their ``mean``.
        fusion: ``add`` the transformed context, ``scale`` by its gate, or scale and then add (``scale-add``).
        activation: Nonlinearity between the two layers of a transform.
        gate: Squashing function of the scale.
        eps: Constant in the layer norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A choice is not known, or a number of hidden units is below 1.

    Source:
        Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", ICCVW 2019,
        arXiv:1904.11492. Authors' code: github.com/xvjiarui/GCNet @ 029db54, mmdet/ops/gcb/context_block.py.
        Deviations: linear layers for 1x1 convolutions of a single position. The bias of the attention logits is kept
        because checkpoints hold it; the softmax cancels it.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden_channels: int | None = None,
        pooling: Literal["attention", "mean"] = "attention",
        fusion: Literal["add", "scale", "scale-add"] = "add",
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GlobalContext", 1, channels=channels, reduction=reduction, hidden_channels=hidden_channels)
        check_choice("GlobalContext", "pooling", pooling, ("attention", "mean"))
        check_choice("GlobalContext", "fusion", fusion, ("add", "scale", "scale-add"))
        hidden = max(1, channels // reduction) if hidden_channels is None else hidden_channels
        self.gate = get_gate("GlobalContext", gate)
        self.attend = nn.Linear(channels, 1) if pooling == "attention" else None
        function = get_activation("GlobalContext", activation)
        self.scale = _Transform(channels, hidden, function, eps) if fusion != "add" else None
        self.add = _Transform(channels, hidden, function, eps) if fusion != "scale" else None
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as the authors do: the last layers are zero, so that ``fusion="add"`` starts as the identity."""
        if self.attend is not None:
            nn.init.kaiming_normal_(self.attend.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(self.attend.bias)
        for transform in (self.scale, self.add):
            if transform is not None:
                nn.init.zeros_(transform.expand.weight)
                nn.init.zeros_(transform.expand.bias)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` with the global context fused in."""
        check_input("GlobalContext", x_nchw, self.channels)
        context_nc = self._pool(x_nchw)
        y_nchw = x_nchw
        if self.scale is not None:
            weight_nc = self.gate(self.scale(context_nc))
            y_nchw = y_nchw * weight_nc[:, :, None, None]
        if self.add is not None:
            y_nchw = y_nchw + self.add(context_nc)[:, :, None, None]
        return y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weight of each position in the context as ``spatial``, or nothing for the plain mean."""
        check_input("GlobalContext", x_nchw, self.channels)
        if self.attend is None:
            return {}
        weight_n1l = position_weights(x_nchw, *affine(self.attend))
        return {"spatial": torch.unflatten(weight_n1l, 2, x_nchw.shape[2:])}

    def _pool(self, x_nchw: Tensor) -> Tensor:
        if self.attend is None:
            return global_mean(x_nchw)
        return weighted_sum(x_nchw, position_weights(x_nchw, *affine(self.attend)))


class _Transform(nn.Module):
    """Bottleneck of two linear layers with a layer norm over the hidden units."""

    def __init__(self, channels: int, hidden: int, activation: Callable[[Tensor], Tensor], eps: float) -> None:
        super().__init__()
        self.activation = activation
        self.reduce = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, context_nc: Tensor) -> Tensor:
        output_nc: Tensor = self.expand(self.activation(self.norm(self.reduce(context_nc))))
        return output_nc
