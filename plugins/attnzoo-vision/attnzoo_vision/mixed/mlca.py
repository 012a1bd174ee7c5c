"""MLCA: ECA done twice, for the whole map and for a coarse grid of regions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.adaptive_pooling import adaptive_mean
from attnzoo_vision.ops.channel_window import adaptive_kernel_size, filter_by
from attnzoo_vision.ops.checks import check_at_least, check_input, check_odd

_LARGE = 8  # pixels for each region from which products are the quicker way to spread the weights


class MLCA(nn.Module):
    """Scale each channel by a mean of a weight for the whole map and a weight for each region of a coarse grid.

    ``p`` is ``x`` averaged over ``local_size`` by ``local_size`` regions. The channels of its mean, and those of all
    its regions one after another, are filtered by one kernel each: ``g = sigmoid(k * mean(p))``,
    ``l = sigmoid(k' * p)``; ``y = x * resize((1 - local_weight) g + local_weight l)``.

    Args:
        channels: Channels of the input; decides only the number of taps.
        local_size: Regions in each direction.
        local_weight: Share of the weights of the regions, in [0, 1].
        kernel_size: Odd number of taps over the channels; None for ECA's rule ``|log2(C) + 1| / 2``, made odd.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``local_size`` is less than 1, or ``kernel_size`` is even.

    Source:
        Wan et al., "Mixed local channel attention for object detection", Engineering Applications of Artificial
        Intelligence 123, 2023, 106442. Authors' code: github.com/wandahangFY/MLCA @ afbeb47, MLCA.py.
        Deviations: none in the numbers. As there, the kernel runs on from the last channel of a region into the next.
    """

    def __init__(
        self, channels: int, *, local_size: int = 5, local_weight: float = 0.5, kernel_size: int | None = None
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("MLCA", 1, channels=channels, local_size=local_size)
        taps = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        check_odd("MLCA", kernel_size=taps)
        self.local_size = local_size
        self.local_weight = local_weight
        self.whole = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)
        self.local = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weights ``whole``, ``(N, C, 1, 1)``, and ``local``, ``(N, C, S, S)`` with S = ``local_size``."""
        check_input("MLCA", x_nchw, self.channels)
        n, c = x_nchw.shape[:2]
        regions_ncss = adaptive_mean(x_nchw, self.local_size, self.local_size)
        sequence_nl = regions_ncss.flatten(2).transpose(1, 2).flatten(1)
        local_nsc = filter_by(self.local, sequence_nl).unflatten(1, (-1, c))
        local_ncss = local_nsc.transpose(1, 2).reshape(n, c, self.local_size, self.local_size)
        whole_nc = filter_by(self.whole, regions_ncss.mean((2, 3)))
        return {"whole": torch.sigmoid(whole_nc)[:, :, None, None], "local": torch.sigmoid(local_ncss)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled region by region."""
        check_input("MLCA", x_nchw, self.channels)
        h, w = x_nchw.shape[2:]
        weights = self.attention(x_nchw)
        mixed_ncss = torch.lerp(weights["whole"].expand_as(weights["local"]), weights["local"], self.local_weight)
        large = h * w > _LARGE * self.local_size**2 and x_nchw.is_contiguous() and x_nchw.device.type == "cpu"
        if large and not torch.compiler.is_exporting() and not torch.is_autocast_enabled("cpu"):
            return x_nchw * _spread(mixed_ncss, h, w)
        return x_nchw * F.adaptive_avg_pool2d(mixed_ncss, (h, w))


def _spread(mixed_ncss: Tensor, height: int, width: int) -> Tensor:
    """Return the adaptive pooling to a larger map as products, where that would gather number by number."""
    eye_ss = torch.eye(mixed_ncss.shape[2], dtype=mixed_ncss.dtype, device=mixed_ncss.device)
    share_sh, share_sw = F.adaptive_avg_pool1d(eye_ss, height), F.adaptive_avg_pool1d(eye_ss, width)
    return torch.matmul(share_sh.t(), torch.matmul(mixed_ncss, share_sw))
