"""SGE: in each channel group, pixels weighted by their likeness to the group's mean."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least
from attnzoo_vision.ops.pooling import global_mean


class SGE(nn.Module):
    """Scale each pixel of each channel group by a weight from its product with the mean pixel of the group.

    For the channels ``u`` of a group: ``t = mean_hw(u) . u;  z = (t - mean(t)) / (std(t) + eps)``;
    ``y = u * sigmoid(a z + b)`` with one ``a`` and ``b`` for each group.

    Args:
        groups: Number of channel groups; it must divide the channels of the input.
        eps: Added to the standard deviation.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; C a multiple of ``groups``, any H and W from 1 on.

    Raises:
        ValueError: ``groups`` is less than 1.

    Source:
        Li et al., "Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks", 2019,
        arXiv:1905.09646, eq. 1-4. Authors' code: github.com/implus/PytorchInsight,
        classification/models/imagenet/resnet_sge.py.
        Deviations: on 1x1 maps ``z`` is 0 (0/0 there).
    """

    def __init__(self, *, groups: int = 64, eps: float = 1e-5) -> None:
        super().__init__()
        check_at_least("SGE", 1, groups=groups)
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(groups))
        self.bias = nn.Parameter(torch.empty(groups))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with every weight at sigmoid(1), whatever the input."""
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weight of every pixel in every group, ``group``: ``(N, G, H, W)``."""
        n, c, h, w = x_nchw.shape
        mean_m1d = global_mean(x_nchw).view(n * self.groups, 1, c // self.groups)
        likeness_ngl = torch.bmm(mean_m1d, x_nchw.reshape(n * self.groups, -1, h * w)).view(n, self.groups, h * w)
        centred_ngl = likeness_ngl - likeness_ngl.mean(2, keepdim=True)
        norm_ng1 = torch.linalg.vector_norm(centred_ngl, dim=2, keepdim=True)
        deviation_ng1 = norm_ng1 / max(h * w - 1, 1) ** 0.5 + self.eps
        logits_ngl = centred_ngl * (self.weight[:, None] / deviation_ng1) + self.bias[:, None]
        return {"group": torch.sigmoid(logits_ngl).view(n, self.groups, h, w)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each pixel of each group scaled by its weight."""
        weight_nghw = self.attention(x_nchw)["group"]
        return (torch.unflatten(x_nchw, 1, (self.groups, -1)) * weight_nghw.unsqueeze(2)).flatten(1, 2)
