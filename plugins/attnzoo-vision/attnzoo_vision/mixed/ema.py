"""EMA, efficient multi-scale attention: one weight for each pixel and group of channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.axis_pooling import mean_over
from attnzoo_vision.ops.channel_groups import scale_groups
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_weight
from attnzoo_vision.ops.compiling import settled
from attnzoo_vision.ops.convolution import convolve_by
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.joined_norm import is_plain_instance_norm
from attnzoo_vision.ops.pooling import widen
from attnzoo_vision.ops.strips import pool_strips, project_strip


class EMA(nn.Module):
    """Scale each pixel of each channel group by a weight from two views of the group, at one pixel and at 3x3.

    For the channels ``u`` of a group: ``s = W [mean_w(u), mean_h(u)]``, split into ``s_h`` and ``s_w``;
    ``a = IN(u * sigmoid(s_h) * sigmoid(s_w));  b = conv3x3(u)``;
    ``y = u * sigmoid(softmax_c(mean_hw(a)) . b + softmax_c(mean_hw(b)) . a)``.

    Args:
        channels: Channels of the input.
        groups: Number of channel groups, which share all parameters.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``groups`` does not divide ``channels``.

    Source:
        Ouyang et al., "Efficient Multi-Scale Attention Module with Cross-Spatial Learning", ICASSP 2023,
        arXiv:2305.13563, section 2. Authors' code: github.com/YOLOonMe/EMA-attention-module @ afc37ec.
        Deviations: same numbers with less work. The mean of an instance norm is its bias, so the weights of ``b`` are
        the same for all inputs and ``conv3x3`` gives a single plane; its means come from border sums.
    """

    def __init__(self, channels: int, *, groups: int = 32) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("EMA", 1, channels=channels, groups=groups)
        check_divides("EMA", "groups", groups, "channels", channels)
        width = channels // groups
        self.groups = groups
        self.strip = nn.Linear(width, width)
        self.norm = GroupNorm(width, width)
        self.local = nn.Conv2d(width, width, 3, padding=1)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weight of every pixel in every group, ``group``: ``(N, G, H, W)``."""
        check_input("EMA", x_nchw, self.channels)
        n, c, h, w = x_nchw.shape
        x_nchw = x_nchw if x_nchw.is_contiguous() else settled(x_nchw)
        u_mdhw = x_nchw.view(n * self.groups, c // self.groups, h, w)  # m: samples and groups
        rows_mdh, columns_mdw = pool_strips(u_mdhw)
        strips_mdl = torch.sigmoid(project_strip(self.strip, torch.cat([rows_mdh, columns_mdw], dim=2)))
        height_mdh, width_mdw = torch.split(strips_mdl, [h, w], dim=2)
        local = affine(self.local, same=True).filled()
        check_weight("EMA", "local", local[0], *[c // self.groups] * 2, 3, 3)
        local_share_md = torch.softmax(self._local_mean(u_mdhw, columns_mdw, *local), dim=1)
        gated_mdhw = u_mdhw * height_mdh[:, :, :, None] * width_mdw[:, :, None, :]
        if is_plain_instance_norm(self.norm):
            logits_m1hw = self._strip_answer(gated_mdhw, local_share_md)
            del gated_mdhw  # a whole map, before the next one is made
            logits_m1hw = logits_m1hw + self._local_answer(u_mdhw, *local)
        else:
            logits_m1hw = _answers(self.norm(gated_mdhw), convolve_by(u_mdhw, *local), local_share_md)
        return {"group": torch.sigmoid(logits_m1hw).view(n, self.groups, h, w)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each pixel of each group scaled by its weight."""
        return scale_groups(x_nchw, self.attention(x_nchw)["group"])

    def _local_answer(self, u_mdhw: Tensor, weight_dd33: Tensor, bias_d: Tensor) -> Tensor:
        """Return ``softmax(norm.bias) . conv3x3(u)`` by the one kernel that this sum of kernels is."""
        share_d = torch.softmax(self.norm.bias, dim=0)
        kernel_1d33 = (weight_dd33 * share_d[:, None, None, None]).sum(0, keepdim=True)
        return convolve_by(u_mdhw, kernel_1d33, (bias_d * share_d).sum(0, keepdim=True))

    def _local_mean(self, u_mdhw: Tensor, columns_mdw: Tensor, weight_dd33: Tensor, bias_d: Tensor) -> Tensor:
        """Return ``mean_hw(conv3x3(u))``: each tap sees the map without a border row or column.

        Shares of means, not sums, which overflow in float16.
        """
        h, w = u_mdhw.shape[2:]
        first_mdw, last_mdw = u_mdhw[:, :, 0] / h, u_mdhw[:, :, -1] / h
        by_row_md3w = torch.stack([columns_mdw - last_mdw, columns_mdw, columns_mdw - first_mdw], dim=2)
        mean_md3 = mean_over(by_row_md3w, 3)
        first_md3, last_md3 = by_row_md3w[..., 0] / w, by_row_md3w[..., -1] / w
        taps_md33 = torch.stack([mean_md3 - last_md3, mean_md3, mean_md3 - first_md3], dim=3)
        return F.linear(taps_md33.flatten(1), weight_dd33.flatten(1), bias_d)

    def _strip_answer(self, gated_mdhw: Tensor, share_md: Tensor) -> Tensor:
        """Return ``share . IN(gated)`` as one sum over the channels, ``(M, 1, H, W)``."""
        m, d, h, w = gated_mdhw.shape
        centred_mdl = (gated_mdhw - mean_over(gated_mdhw, (2, 3), keepdim=True)).view(m, d, h * w)
        variance_md = widen(torch.linalg.vector_norm(centred_mdl, dim=2)).square() / (h * w)
        inverse_md = torch.rsqrt(variance_md + self.norm.eps).to(share_md.dtype)
        scale_m1d = (share_md * self.norm.weight * inverse_md).unsqueeze(1)
        offset_m11 = F.linear(share_md, self.norm.bias.unsqueeze(0)).unsqueeze(2)
        return torch.baddbmm(offset_m11, scale_m1d, centred_mdl).view(m, 1, h, w)


def _answers(strip_mdhw: Tensor, local_mdhw: Tensor, local_share_md: Tensor) -> Tensor:
    """Return ``softmax_c(mean_hw(a)) . b + softmax_c(mean_hw(b)) . a`` with the second softmax given, ``(M, 1, H, W)``.

    Unlike in `EMA._local_answer` nothing is known of the means of ``a``.
    """
    strip_share_md = torch.softmax(mean_over(strip_mdhw, (2, 3)), dim=1)
    shares_m1e = torch.cat([strip_share_md, local_share_md], dim=1).unsqueeze(1)
    both_mel = torch.cat([local_mdhw, strip_mdhw], dim=1).flatten(2)
    return torch.unflatten(torch.bmm(shares_m1e, both_mel), 2, strip_mdhw.shape[2:])
