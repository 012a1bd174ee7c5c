"""SGE: in each channel group, pixels weighted by their likeness to the group's mean."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.channel_groups import scale_groups
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input
from attnzoo_vision.ops.layout import channels_last_view
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.vector_product import vector_product


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
        ValueError: ``groups`` is less than 1, or does not divide the channels of the input.

    Source:
        Li et al., "Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks", 2019,
        arXiv:1905.09646, eq. 1-4. Authors' code: github.com/implus/PytorchInsight @ 2864528,
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
        check_input("SGE", x_nchw)
        n, c, h, w = x_nchw.shape
        check_divides("SGE", "groups", self.groups, "channels", c)
        likeness_ngl = self._likeness(x_nchw)
        centred_ngl = likeness_ngl - likeness_ngl.mean(2, keepdim=True)
        norm_ng1 = torch.linalg.vector_norm(centred_ngl, dim=2, keepdim=True)
        deviation_ng1 = norm_ng1 / max(h * w - 1, 1) ** 0.5 + self.eps
        logits_ngl = centred_ngl * (self.weight[:, None] / deviation_ng1) + self.bias[:, None]
        return {"group": torch.sigmoid(logits_ngl).view(n, self.groups, h, w)}

    def _likeness(self, x_nchw: Tensor) -> Tensor:
        """Return the product of every pixel with the mean pixel of its group, ``(N, G, L)``."""
        n, c, h, w = x_nchw.shape
        groups, width = self.groups, c // self.groups
        mean_nc, x_nhwc = global_mean(x_nchw), channels_last_view(x_nchw)
        if x_nhwc is None:
            x_mdl = x_nchw.reshape(n * groups, width, h * w)  # m: samples and groups
            return vector_product(mean_nc.view(n * groups, 1, width), x_mdl).view(n, groups, h * w)
        x_nlgd = x_nhwc.view(n, h * w, groups, width)
        return (x_nlgd * mean_nc.view(n, 1, groups, width)).sum(3).transpose(1, 2)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each pixel of each group scaled by its weight."""
        return scale_groups(x_nchw, self.attention(x_nchw)["group"])
