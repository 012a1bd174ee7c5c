"""Channel attention module of DANet."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.compiling import may_overwrite
from attnzoo_vision.ops.gram import gram
from attnzoo_vision.ops.tokens import add_shortcut, as_tokens, project_back


class DANetChannelAttention(nn.Module):
    """Add to each channel a mean of all channels that favours the least similar, times a factor that starts at zero.

    ``y = x + gamma * A X`` with ``A = softmax_j(max_j(e_ij) - e_ij) = softmax_j(-e_ij)`` and ``e = X X^T`` over pixels.
    The most similar channel gets the smallest weight, as in the authors' code; with ``negate=False`` the largest,
    ``A = softmax_j(e_ij)``, as in the paper.

    Args:
        channels: Channels of the input; the block itself has one parameter.
        negate: Take the softmax of minus the similarity (the authors' code and weights) instead of the similarity.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``channels`` is below 1, or the input has another number of channels.

    Source:
        Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983, section 3.3.
        Authors' code: github.com/junfu1115/DANet @ b0a0fa0, encoding/nn/da_att.py, CAM_Module.
        Deviations: none from the code; the paper's equation 3 is ``negate=False``.
    """

    def __init__(self, channels: int, *, negate: bool = True) -> None:
        super().__init__()
        check_at_least("DANetChannelAttention", 1, channels=channels)
        self.channels = channels
        self.negate = negate
        self.gamma = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity."""
        nn.init.zeros_(self.gamma)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus the weighted means of its channels."""
        weight_ncc, x_nlc = self._weights(x_nchw), as_tokens(x_nchw)
        small = not torch.compiler.is_exporting() and x_nlc.shape[1] < x_nlc.shape[2]
        if small:  # the map has fewer numbers than the weights, whose gradient must come out in their order of memory
            y_ncl = torch.bmm(weight_ncc, x_nlc.transpose(1, 2))
            return torch.addcmul(x_nchw, self.gamma, y_ncl.unflatten(2, x_nchw.shape[2:]))
        return add_shortcut(project_back(x_nlc, self.gamma * weight_ncc, None, x_nchw), x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channels``, the weight of every channel (column) in the mean for a channel (row)."""
        return {"channels": self._weights(x_nchw)}

    def _weights(self, x_nchw: Tensor) -> Tensor:
        check_input("DANetChannelAttention", x_nchw, self.channels)
        similarity_ncc = gram(x_nchw.flatten(2))
        if self.negate:
            similarity_ncc = similarity_ncc.neg_() if may_overwrite(similarity_ncc) else -similarity_ncc
        return torch.softmax(similarity_ncc, dim=2).to(x_nchw.dtype)
