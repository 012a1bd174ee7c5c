"""Gated Channel Transformation."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.pooling import square_sum, widen
from attnzoo_vision.ops.square_sum import square_sum_and_map


class GCT(nn.Module):
    """Scale each channel by a gate that lets channels compete or cooperate by their norms.

    ``e_c = alpha_c sqrt(sum_hw(x_c^2) + eps)``
    ``y_c = x_c (1 + tanh(gamma_c e_c / sqrt(mean_c(e^2) + eps) + beta_c))``

    Args:
        channels: Channels of the input.
        mode: Norm of a channel: ``l2`` as above; ``l1`` is ``e = alpha sum_hw|x|``, divided by ``mean_c|e| + eps``.
        after_relu: The input is never negative: ``l1`` then leaves out the absolute value.
        eps: Added under the roots, or to the denominator of ``l1``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``mode`` is not known, ``channels`` is less than 1, or the input has other channels.

    Source:
        Yang et al., "Gated Channel Transformation for Visual Recognition", CVPR 2020, arXiv:1909.11519, eq. 3-6.
        Authors' code: github.com/z-x-yang/GCT @ 68983ed, PyTorch/GCT.py.
        Deviations: half precision is summed in float32, where theirs overflows.
    """

    def __init__(
        self, channels: int, *, mode: Literal["l2", "l1"] = "l2", after_relu: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GCT", 1, channels=channels)
        check_choice("GCT", "mode", mode, ("l2", "l1"))
        self.mode = mode
        self.after_relu = after_relu
        self.eps = eps
        self.alpha = nn.Parameter(torch.empty(channels))
        self.gamma = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with every gate at 1, whatever the input."""
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its gate in (0, 2)."""
        check_input("GCT", x_nchw, self.channels)
        total_nc, same_nchw = square_sum_and_map(x_nchw) if self.mode == "l2" else (self._total(x_nchw), x_nchw)
        return same_nchw * self._gate(total_nc).to(x_nchw.dtype)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the gates that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        check_input("GCT", x_nchw, self.channels)
        return {"channel": self._gate(self._total(x_nchw)).to(x_nchw.dtype)}

    def _total(self, x_nchw: Tensor) -> Tensor:
        """Return the sum over the pixels of the squares or of the magnitudes, ``(N, C)``."""
        if self.mode == "l2":
            return square_sum(x_nchw)
        wide_nchw = widen(x_nchw)
        positive_nchw = wide_nchw if self.after_relu else wide_nchw.abs()
        return positive_nchw.sum(dim=(2, 3))

    def _gate(self, total_nc: Tensor) -> Tensor:
        if self.mode == "l2":
            embedding_nc = (total_nc + self.eps).sqrt() * self.alpha
            norm_n1 = (embedding_nc.square().mean(dim=1, keepdim=True) + self.eps).sqrt()
        else:
            embedding_nc = total_nc * self.alpha
            norm_n1 = embedding_nc.abs().mean(dim=1, keepdim=True) + self.eps
        gate_nc = 1.0 + torch.tanh(embedding_nc * (self.gamma / norm_n1) + self.beta)
        return gate_nc[:, :, None, None]
