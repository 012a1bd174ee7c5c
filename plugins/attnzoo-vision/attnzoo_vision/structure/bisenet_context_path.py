"""Context path of BiSeNet, behind its backbone."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.resize import resize
from attnzoo_vision.structure.bisenet_arm import AttentionRefinement


class ContextPath(nn.Module):
    """Refine the two deepest features of a backbone and the global mean, each added to the next and resized.

    ``g = relu(BN(W mean_hw(x32)))``, ``t = refine(up(arm(x32) + g))``, ``y = refine(up(arm(x16) + t))``

    Args:
        channels: Channels of the backbone's feature at 1/16 of the image's size.
        deep_channels: Channels of the feature at 1/32.
        out_channels: Channels of both outputs.
        upsample: How features are resized. ``bilinear`` (between corner centres) is the authors', ``nearest`` that of
            CoinCheung, mmsegmentation and STDC-Seg.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``deep_nkhw`` ``(N, K, h, w)`` to the context ``(N, out_channels, 2 H, 2 W)``
        and the deep context ``(N, out_channels, H, W)``, which auxiliary heads use; any sizes from 1 on. ``size`` asks
        for another height and width of the first, such as those of the backbone's feature at 1/8.

    Raises:
        ValueError: ``upsample`` is not one of those above, or a number of channels is below 1.

    Source:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018,
        arXiv:1808.00897, section 3.2. First author's code: github.com/ycszen/TorchSeg @ 62eeb15,
        model/bisenet/cityscapes.bisenet.R18/network.py, class BiSeNet.
        Deviations: the backbone is left out. Training with a single sample, an error there, normalises what is pooled
        with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        deep_channels: int,
        *,
        out_channels: int = 128,
        upsample: Literal["bilinear", "nearest"] = "bilinear",
    ) -> None:
        super().__init__()
        self.channels, self.deep_channels = channels, deep_channels
        check_at_least("ContextPath", 1, channels=channels, deep_channels=deep_channels, out_channels=out_channels)
        check_choice("ContextPath", "upsample", upsample, ("bilinear", "nearest"))
        self.upsample = upsample
        self.context = nn.Linear(deep_channels, out_channels, bias=False)
        self.context_norm = BatchNorm1d(out_channels)
        self.deep_arm = AttentionRefinement(deep_channels, out_channels)
        self.deep_refine = ConvNorm(out_channels, out_channels, kernel_size=3, relu=True)
        self.arm = AttentionRefinement(channels, out_channels)
        self.refine = ConvNorm(out_channels, out_channels, kernel_size=3, relu=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal, as the authors do."""
        for layer in (self.context, self.deep_refine.conv, self.refine.conv):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for norm in (self.context_norm, self.deep_refine.norm, self.refine.norm):
            norm.reset_parameters()
        self.deep_arm.reset_parameters()
        self.arm.reset_parameters()

    def forward(self, x_nchw: Tensor, deep_nkhw: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Return the context and the deep context."""
        check_input("ContextPath", x_nchw, self.channels)
        check_input("ContextPath", deep_nkhw, self.deep_channels, name="deep", argument="deep_channels")
        height, width = x_nchw.shape[2:]
        mean_no = self.context_norm(self.context(global_mean(deep_nkhw)))
        deep_nohw = self.deep_arm(deep_nkhw) + torch.relu(mean_no)[:, :, None, None]
        deep_nohw = self.deep_refine(resize(deep_nohw, (height, width), self.upsample))
        context_nohw = resize(self.arm(x_nchw) + deep_nohw, size or (2 * height, 2 * width), self.upsample)
        return self.refine(context_nohw), deep_nohw
