"""Double attention with both softmaxes over the positions."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, join, reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.position_pooling import weighted_sums
from attnzoo_vision.ops.tokens import add_shortcut, as_tokens, project, project_back


class DoubleAttentionPositions(nn.Module):
    """Gather features of the whole map, then spread them with maps that also sum to one over the positions.

    ``G = (W_a x + b_a) softmax_l(W_b x + b_b)^T``; ``Z = G^T softmax_l(W_v x + b_v)``; ``y = x + W_r Z + b_r``

    Other than in `DoubleAttention`, the second softmax runs over positions and meets the channels of the features, so
    that the result has one channel for each gathered descriptor.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives the number of features and of descriptors (at least 1).
        hidden_channels: Number of features and of descriptors; replaces ``reduction``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A size is below 1.

    Source:
        After Chen et al., "A^2-Nets: Double Attention Networks", NeurIPS 2018, arXiv:1810.11579, as in
        github.com/yinmh17/DNL-Semantic-Segmentation @ 594a359, model/seg/utils/a2block.py.
        Deviations: none from that code, which is not the paper's block.
    """

    def __init__(self, channels: int, *, reduction: int = 4, hidden_channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        check_at_least(
            "DoubleAttentionPositions", 1, channels=channels, reduction=reduction, hidden_channels=hidden_channels
        )
        hidden = max(1, channels // reduction) if hidden_channels is None else hidden_channels
        self.feature = nn.Linear(channels, hidden)
        self.gather = nn.Linear(channels, hidden)
        self.distribute = nn.Linear(channels, hidden)
        self.reconstruct = nn.Linear(hidden, channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus the spread descriptors."""
        gather_nrl, distribute_nrl = self._weights(x_nchw)
        if not torch.compiler.is_exporting() and gather_nrl.shape[2] < gather_nrl.shape[1]:
            feature_nlr = project(x_nchw, *affine(self.feature))
            z_nlr = torch.bmm(distribute_nrl.transpose(1, 2), torch.bmm(gather_nrl, feature_nlr).transpose(1, 2))
            y_nchw = project_back(z_nlr, *affine(self.reconstruct), x_nchw)
            return add_shortcut(y_nchw, x_nchw)
        gathered_ncr = weighted_sums(x_nchw, gather_nrl).transpose(1, 2)
        weight_rc, bias_r = affine(self.feature).filled()
        descriptor_nrr = torch.matmul(weight_rc, gathered_ncr) + bias_r[:, None]
        weight_cr, bias_c = affine(self.reconstruct)
        weight_ncr = torch.matmul(weight_cr, descriptor_nrr.transpose(1, 2))
        y_nchw = project_back(distribute_nrl.transpose(1, 2), weight_ncr, bias_c, x_nchw)
        return add_shortcut(y_nchw, x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``gather`` and ``distribute``, both softmaxes over the positions."""
        gather_nrl, distribute_nrl = self._weights(x_nchw)
        size = x_nchw.shape[2:]
        return {"gather": torch.unflatten(gather_nrl, 2, size), "distribute": torch.unflatten(distribute_nrl, 2, size)}

    def _weights(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("DoubleAttentionPositions", x_nchw, self.channels)
        weight, bias = join(affine(self.gather), affine(self.distribute))
        weights_nol = torch.softmax(project_back(as_tokens(x_nchw), weight, bias, x_nchw).flatten(2), dim=2)
        gather_nrl, distribute_nrl = weights_nol.chunk(2, dim=1)
        return gather_nrl, distribute_nrl
