"""Feature fusion module of BiSeNet."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_at_most, check_choice, check_input
from attnzoo_vision.ops.conv_norm import ConvNorm
from attnzoo_vision.ops.draw import by_inputs, draw_anew
from attnzoo_vision.ops.pooling import global_mean


class FeatureFusion(nn.Module):
    """Join two features of one size and add to each channel its share, computed from the means of all channels.

    ``f = relu(BN(W cat(s, c)))``, ``y = f + f * sigmoid(W2 relu(W1 mean_hw(f)))``

    Args:
        channels: Channels of both inputs together.
        out_channels: Channels of the output.
        reduction: Divisor of ``out_channels`` that gives the number of hidden units, rounded down.
        gate: What the sigmoid is taken of. ``mlp`` is the formula above, the authors' and STDC-Seg's. ``norm`` is
            ``BN(W mean_hw(f))``, one layer, of the later versions of CoinCheung's BiSeNet; ``norm_relu`` is
            ``relu(BN(W mean_hw(f)))``, of mmsegmentation's BiSeNetV1, a share of 1/2 at least. Both have no
            ``reduction``.

    Shape:
        ``spatial_nahw`` ``(N, A, H, W)`` and ``context_nbhw`` ``(N, B, H, W)`` with A + B = C to
        ``(N, out_channels, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``reduction`` leaves no hidden unit or is given for one layer, ``gate`` is not one of those above,
            or a number of channels is below 1.

    Source:
        Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018,
        arXiv:1808.00897, fig. 2 (c). First author's code: github.com/ycszen/TorchSeg @ 62eeb15,
        furnace/seg_opr/seg_oprs.py, class FeatureFusion.
        Deviations: none. The weight's layers are ``nn.Linear`` for their 1x1 convolutions. Training the forms with one
        layer with a single sample, an error there, normalises the weight with the running statistics.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        reduction: int = 1,
        gate: Literal["mlp", "norm", "norm_relu"] = "mlp",
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("FeatureFusion", 1, channels=channels, out_channels=out_channels, reduction=reduction)
        check_at_most("FeatureFusion", "reduction", reduction, "out_channels", out_channels)
        check_choice("FeatureFusion", "gate", gate, ("mlp", "norm", "norm_relu"))
        if gate != "mlp" and reduction != 1:
            message = f"FeatureFusion: reduction={reduction} needs gate='mlp', {gate!r} has no hidden units; use 1"
            raise ValueError(message)
        self.form = gate
        self.fuse = ConvNorm(channels, out_channels, relu=True)
        if gate == "mlp":
            self.squeeze = nn.Linear(out_channels, out_channels // reduction, bias=False)
            self.excite = nn.Linear(out_channels // reduction, out_channels, bias=False)
        else:
            self.gate = nn.Linear(out_channels, out_channels, bias=False)
            self.gate_norm = BatchNorm1d(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Kaiming normal, as the authors do."""
        draw_anew(self, conv=by_inputs, linear=by_inputs, zero_biases=True)

    def forward(self, spatial_nahw: Tensor, context_nbhw: Tensor) -> Tensor:
        """Return the fused feature."""
        feature_nohw = self._fused(spatial_nahw, context_nbhw)
        return feature_nohw * (1.0 + self._weight(feature_nohw))

    def attention(self, spatial_nahw: Tensor, context_nbhw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the share that is added to each channel, ``(N, out_channels, 1, 1)``."""
        return {"channel": self._weight(self._fused(spatial_nahw, context_nbhw))}

    def _fused(self, spatial_nahw: Tensor, context_nbhw: Tensor) -> Tensor:
        check_input("FeatureFusion", spatial_nahw, name="spatial")
        check_input("FeatureFusion", context_nbhw, name="context")
        both_nchw = torch.cat((spatial_nahw, context_nbhw), dim=1)
        check_input("FeatureFusion", both_nchw, self.channels, name="spatial and context together")
        feature_nohw: Tensor = self.fuse(both_nchw)
        return feature_nohw

    def _weight(self, feature_nohw: Tensor) -> Tensor:
        return torch.sigmoid(self._logits(global_mean(feature_nohw)))[:, :, None, None]

    def _logits(self, mean_no: Tensor) -> Tensor:
        logits_no: Tensor
        if self.form == "mlp":
            logits_no = self.excite(torch.relu(self.squeeze(mean_no)))
        else:
            logits_no = self.gate_norm(self.gate(mean_no))
        return torch.relu(logits_no) if self.form == "norm_relu" else logits_no
