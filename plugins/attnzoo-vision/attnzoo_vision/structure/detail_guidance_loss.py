"""Detail guidance of STDC-Seg: a loss that teaches a shallow feature where the edges are."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_input
from attnzoo_vision.ops.convolution import convolve_by
from attnzoo_vision.ops.resize import resize

_THRESHOLD = 0.1


class DetailGuidanceLoss(nn.Module):
    """Compare the logits of a detail head with the edges of the label map, found at several scales.

    ``target = [sum_s w_s [relu(laplace_s(label)) > 0.1] > 0.1]``, ``y = (BCE(logits, target), Dice(logits, target))``

    Args:
        scale_weights: Weight of the edges found with stride 1, 2, 4, ... . With those of the paper an edge that only
            stride 4 finds does not count.
        smooth: Added to numerator and denominator of the Dice loss.

    Shape:
        ``logits_n1hw`` ``(N, 1, h, w)`` and ``labels_nhw`` ``(N, H, W)``, class numbers of any dtype, to the two losses
        ``(2,)``, of which the paper takes the sum; any sizes from 1 on. Logits of another size are resized.

    Raises:
        ValueError: ``scale_weights`` is empty.

    Source:
        Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021, arXiv:2104.13188, eq. 2-4.
        Authors' code: github.com/MichaelFan01/STDC-Seg @ 59ff37f, loss/detail_loss.py.
        Deviations: the weights are constants, as their parameter cannot be trained: the threshold behind it has no
        gradient. The target is formed in float32 whatever the dtype, since 0.1 against 0.1 decides about it.
    """

    def __init__(
        self, *, scale_weights: list[float] | tuple[float, ...] = (0.6, 0.3, 0.1), smooth: float = 1.0
    ) -> None:
        super().__init__()
        if not scale_weights:
            message = "DetailGuidanceLoss: scale_weights is empty, expected a weight for stride 1, 2, ...; give one"
            raise ValueError(message)
        self.scale_weights = tuple(scale_weights)
        self.smooth = smooth

    def forward(self, logits_n1hw: Tensor, labels_nhw: Tensor) -> Tensor:
        """Return the binary cross-entropy and the Dice loss."""
        check_input("DetailGuidanceLoss", logits_n1hw, 1, name="logits", argument="")
        check_input("DetailGuidanceLoss", labels_nhw, axes="NHW", name="labels")
        target_n1hw = self._target(labels_nhw).to(logits_n1hw.dtype)
        if logits_n1hw.shape[2:] != target_n1hw.shape[2:]:
            logits_n1hw = resize(logits_n1hw, target_n1hw.shape[2:])
        cross_entropy = F.binary_cross_entropy_with_logits(logits_n1hw, target_n1hw)
        probability_nl, target_nl = torch.sigmoid(logits_n1hw).flatten(1), target_n1hw.flatten(1)
        overlap_n = (probability_nl * target_nl).sum(1)
        dice_n = 1 - (2 * overlap_n + self.smooth) / (probability_nl.sum(1) + target_nl.sum(1) + self.smooth)
        return torch.stack((cross_entropy, dice_n.mean().to(cross_entropy.dtype)))

    def attention(self, logits_n1hw: Tensor, labels_nhw: Tensor) -> dict[str, Tensor]:
        """Return ``target``, 1 where an edge is, ``(N, 1, H, W)``."""
        check_input("DetailGuidanceLoss", logits_n1hw, 1, name="logits", argument="")
        check_input("DetailGuidanceLoss", labels_nhw, axes="NHW", name="labels")
        return {"target": self._target(labels_nhw).to(logits_n1hw.dtype)}

    @torch.no_grad()
    def _target(self, labels_nhw: Tensor) -> Tensor:
        labels_n1hw = labels_nhw[:, None].float()
        kernel = labels_n1hw.new_full((1, 1, 3, 3), -1.0)
        kernel[..., 1, 1] = 8.0
        total_n1hw = torch.zeros_like(labels_n1hw)
        for scale, weight in enumerate(self.scale_weights):
            edges = convolve_by(labels_n1hw, kernel, stride=2**scale) > _THRESHOLD
            edges_n1hw = resize(edges.float(), labels_n1hw.shape[2:], "nearest")
            total_n1hw = total_n1hw + weight * edges_n1hw
        return (total_n1hw > _THRESHOLD).float()
