"""NAM: the scales that batch normalisation has learned, used as channel weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import with_right_gradient
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.compiling import settled
from attnzoo_vision.ops.joined_norm import is_plain_norm


class NAM(nn.Module):
    """Scale each element by a weight from its normalised value, in proportion to the batch norm's own scales.

    ``y = x * sigmoid(BN(x) * |gamma| / sum_c |gamma|)`` where ``gamma`` is the weight of the batch norm; the factor
    ``|gamma| / sum |gamma|`` passes no gradient on.

    Args:
        channels: Channels of the input.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is less than 1.

    Source:
        Liu et al., "NAM: Normalization-based Attention Module", NeurIPS workshop 2021, arXiv:2111.12419, eq. 1-2.
        Authors' code: github.com/Christian-lyc/NAM @ 6e8d3e3, MODELS/attention.py.
        Deviations: channel part only, as in the authors' code; the product with the factor is done inside the norm.
        Training on one pixel takes the running statistics, and leaves them, where torch raises.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("NAM", 1, channels=channels)
        self.norm = nn.BatchNorm2d(channels)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weight of every element, ``element``: ``(N, C, H, W)``.

        In training it updates no statistics, unless the norm is another than the constructor's, or something is hooked
        to it: it is called then.
        """
        return {"element": self._weight(x_nchw, update=False)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each element scaled by its weight."""
        weight_nchw = self._weight(x_nchw, update=True)
        return x_nchw * weight_nchw if torch.is_grad_enabled() else weight_nchw.mul_(x_nchw)

    def _weight(self, x_nchw: Tensor, *, update: bool) -> Tensor:
        check_input("NAM", x_nchw, self.channels)
        norm = self.norm
        if norm.weight is None:
            message = "NAM: norm.weight is None, expected the scales that the weights come from; use affine=True"
            raise ValueError(message)
        share_c = norm.weight.detach().abs()
        share_c = settled(share_c / share_c.sum())
        if not _is_usual(norm):
            return torch.sigmoid(norm(x_nchw) * share_c[:, None, None])
        # the only value of a channel is its own mean, and says nothing about the spread
        training = norm.training and x_nchw.numel() != x_nchw.shape[1]
        mean_c, variance_c = (None, None) if training and not update else (norm.running_mean, norm.running_var)
        if training and update and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        weight_c, bias_c, momentum = norm.weight * share_c, norm.bias * share_c, norm.momentum or 0.0

        def normalised(x: Tensor) -> Tensor:
            return F.batch_norm(x, mean_c, variance_c, weight_c, bias_c, training, momentum, norm.eps)

        return torch.sigmoid(with_right_gradient(normalised, x_nchw))


def _is_usual(norm: nn.Module) -> bool:
    """Say whether ``norm`` does what its numbers say, each batch with the same momentum."""
    return is_plain_norm(norm) and norm.momentum is not None and norm.running_mean is not None
