"""Global-local temporal representation: dilated temporal pyramid and temporal self-attention."""

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.convolution import convolve
from attnzoo_vision.temporal.temporal_self_attention import TemporalSelfAttention


class GLTR(nn.Module):
    """Describe a clip by the features of its frames, their dilated convolutions along time, and attention over them.

    ``y = mean_t(tsa(cat(x, conv_d1(x), conv_d2(x), ...)))``

    Args:
        channels: Channels of a frame's feature.
        dilations: Steps in frames of the convolutions along time, which span 3 frames each.
        keep_frames: Join the frames' features themselves in front of their convolutions, as the code does. The paper
            joins the convolutions alone, of the dilations 1, 2 and 4.

    Shape:
        ``(N, T, C)`` to ``(N, (1 + len(dilations)) * C)``, without ``keep_frames`` ``(N, len(dilations) * C)``; any T
        from 1 on.

    Raises:
        ValueError: ``dilations`` is empty or has a number below 1.

    Source:
        Li et al., "Global-Local Temporal Representations for Video Person Re-Identification", ICCV 2019,
        arXiv:1908.10049, section 4. First author's code: github.com/ljn114514/GLTR @ 5204197, resnet.py.
        Deviations: none from the code. Its dilations 1, 2, 3 and the features that it keeps are not the paper's.
    """

    def __init__(
        self, channels: int, *, dilations: list[int] | tuple[int, ...] = (1, 2, 3), keep_frames: bool = True
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GLTR", 1, channels=channels, dilations=dilations)
        if not dilations:
            message = f"GLTR: dilations={dilations!r} is empty; give at least one number"
            raise ValueError(message)
        convs = [nn.Conv1d(channels, channels, 3, padding=d, dilation=d, bias=False) for d in dilations]
        self.convs = nn.ModuleList(convs)
        self.keep_frames = keep_frames
        self.attend = TemporalSelfAttention(channels * (keep_frames + len(dilations)))
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Draw the weights of the pyramid: small and normal, as the authors do."""
        for weight in self.convs.parameters():
            nn.init.normal_(weight, std=0.001)

    def forward(self, x_ntc: Tensor) -> Tensor:
        """Return one vector for each clip."""
        attended_nmt: Tensor = self.attend(self._pyramid(x_ntc))
        return attended_nmt.mean(dim=2)

    def attention(self, x_ntc: Tensor) -> dict[str, Tensor]:
        """Return ``attention``, the weights of all frames for each, ``(N, T, T)``."""
        return self.attend.attention(self._pyramid(x_ntc))

    def _pyramid(self, x_ntc: Tensor) -> Tensor:
        check_input("GLTR", x_ntc, self.channels, "NTC")
        x_nct = x_ntc.transpose(1, 2)
        parts = [x_nct] if self.keep_frames else []
        return torch.cat([*parts, *(convolve(conv, x_nct) for conv in self.convs)], dim=1)
