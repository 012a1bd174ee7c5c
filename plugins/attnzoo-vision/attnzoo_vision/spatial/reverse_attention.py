"""Reverse attention of RAS."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.ops.joined_norm import fresh_norm
from attnzoo_vision.ops.rectify import rectify, rectify_


class ReverseAttention(nn.Module):
    """Refine a coarse prediction by features of the places that it leaves out.

    ``y = p + conv(hidden(gate * relu(BN(W x))))``, ``gate = sigmoid(-p)``, ``hidden`` is ``depth`` times
    ``relu(BN(conv(x)))``

    Args:
        channels: Channels of the side feature.
        hidden_channels: Channels of the convolutions.
        norm: Normalise behind each convolution but the last (version 2 of the code). Without (version 1) nothing
            stands between the first convolution and the gate, neither norm nor ReLU.
        depth: Number of hidden 3x3 convolutions.
        gate_first: Gate the side feature itself, in front of the first convolution: ``W (gate * x)``. With norm=False
            and depth=2 it is the Caffe model of the first paper.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``prediction_n1hw`` ``(N, 1, H, W)``, logits of the coarser stage resized to the
        size of ``x_nchw``, to refined logits ``(N, 1, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A number of channels or ``depth`` is below 1.

    Source:
        Chen et al., "Reverse Attention for Salient Object Detection", ECCV 2018, arXiv:1807.09940, eq. 2-4, and
        "Reverse Attention Based Residual Network for Salient Object Detection", IEEE TIP 2020.
        Authors' code: github.com/ShuhanChen/RAS-pytorch @ 67ea6c3, v2/RAS.py and v1/RAS.py.
        Caffe model of the first paper: github.com/ShuhanChen/RAS_ECCV18 @ 0d13860, deploy.prototxt.
        Deviations: none. Caffe's fixed deconvolutions between the stages are left to the host, as all resizing is.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int = 64,
        norm: bool = True,
        depth: int = 3,
        gate_first: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ReverseAttention", 1, channels=channels, hidden_channels=hidden_channels, depth=depth)
        self.gate_first = gate_first
        self.reduce = nn.Conv2d(channels, hidden_channels, 1)
        self.reduce_norm = BatchNorm2d(hidden_channels) if norm else None
        self.convs = nn.ModuleList(nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1) for _ in range(depth))
        norms = [BatchNorm2d(hidden_channels) if norm else nn.Identity() for _ in range(depth)]
        self.norms = nn.ModuleList(norms)
        self.score = nn.Conv2d(hidden_channels, 1, 3, padding=1)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the weights: Kaiming normal with norm (version 2), small and normal without (version 1, Caffe).

        The biases start at zero, but in version 1 they are torch's.
        """
        for layer in (self.reduce, *self.convs, self.score):
            if self.reduce_norm is None:
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if self.reduce_norm is not None or self.gate_first:
                nn.init.zeros_(layer.bias)

    def forward(self, x_nchw: Tensor, prediction_n1hw: Tensor) -> Tensor:
        """Return the refined logits."""
        check_input("ReverseAttention", x_nchw, self.channels)
        check_input("ReverseAttention", prediction_n1hw, 1, name="prediction", argument="")
        gate_n1hw = torch.sigmoid(-prediction_n1hw)
        y_nrhw = convolve(self.reduce, x_nchw * gate_n1hw if self.gate_first else x_nchw)
        if self.reduce_norm is not None:
            y_nrhw = rectify_(fresh_norm(self.reduce_norm, y_nrhw))
        if not self.gate_first:
            y_nrhw = y_nrhw * gate_n1hw
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y_nrhw = rectify(norm(convolve(conv, y_nrhw)))
        refined_n1hw: Tensor = convolve(self.score, y_nrhw)
        return prediction_n1hw + refined_n1hw

    def attention(self, x_nchw: Tensor, prediction_n1hw: Tensor) -> dict[str, Tensor]:
        """Return ``gate``, one minus the coarse probability, ``(N, 1, H, W)``."""
        check_input("ReverseAttention", x_nchw, self.channels)
        check_input("ReverseAttention", prediction_n1hw, 1, name="prediction", argument="")
        return {"gate": torch.sigmoid(-prediction_n1hw)}
