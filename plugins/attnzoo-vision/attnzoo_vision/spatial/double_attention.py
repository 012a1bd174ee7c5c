"""Double attention block (A^2-Nets)."""

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, join, reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.joined_norm import fresh_norm
from attnzoo_vision.ops.position_pooling import weighted_sums
from attnzoo_vision.ops.tokens import add_shortcut, as_tokens, project, project_back


class DoubleAttention(nn.Module):
    """Gather features of the whole map into a few descriptors, then give each position a mixture of them.

    ``G = (W_a x + b_a) softmax_l(W_b x + b_b)^T`` (M x K descriptors); ``Z = G softmax_k(W_v x + b_v)``;
    ``y = x + W_r Z + b_r``

    With more positions than descriptors, the features are gathered before they are projected, ``W_a (x B^T) + b_a``,
    and the descriptors reconstructed before they are distributed, ``(W_r G) V``; the features and Z are never made.

    Args:
        channels: Channels of the input.
        reduction: Divisor of ``channels`` that gives M and K (rounded down, at least 1).
        hidden_channels: Channels M of a descriptor; replaces ``reduction``.
        num_maps: Number K of descriptors; replaces ``reduction``.
        reconstruct: Project Z back to ``channels``; without it Z itself is the result.
        residual: Add the input to the result.
        norm: Batch norm behind the reconstruction, as the paper's figure is said to have: ``y = x + BN(W_r Z + b_r)``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``, or to ``(N, M, H, W)`` without ``reconstruct``; any H and W from 1 on.

    Raises:
        ValueError: A size is below 1, or ``residual`` or ``norm`` without ``reconstruct``.

    Source:
        Chen et al., "A^2-Nets: Double Attention Networks", NeurIPS 2018, arXiv:1810.11579, eq. 4-7. No PyTorch code by
        the authors; compared with github.com/nguyenvo09/Double-Attention-Network @ c378693, which adds no input.
        Deviations: none from the equations.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        hidden_channels: int | None = None,
        num_maps: int | None = None,
        reconstruct: bool = True,
        residual: bool = True,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("DoubleAttention", 1, channels=channels, reduction=reduction)
        check_at_least("DoubleAttention", 1, hidden_channels=hidden_channels, num_maps=num_maps)
        if residual and not reconstruct:
            message = "DoubleAttention: residual=True needs reconstruct=True; set residual=False"
            raise ValueError(message)
        if norm and not reconstruct:
            message = "DoubleAttention: norm=True needs reconstruct=True; set norm=False"
            raise ValueError(message)
        hidden = max(1, channels // reduction) if hidden_channels is None else hidden_channels
        maps = max(1, channels // reduction) if num_maps is None else num_maps
        self.residual = residual
        self.feature = nn.Linear(channels, hidden)
        self.gather = nn.Linear(channels, maps)
        self.distribute = nn.Linear(channels, maps)
        self.reconstruct = nn.Linear(hidden, channels) if reconstruct else None
        self.norm = BatchNorm2d(channels) if norm else None

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus the distributed descriptors."""
        gather_nkl, distribute_nkl = self._weights(x_nchw)
        maps, positions = gather_nkl.shape[1:]
        small = not torch.compiler.is_exporting() and positions < maps
        y_nchw = (self._few_positions if small else self._few_maps)(x_nchw, gather_nkl, distribute_nkl.transpose(1, 2))
        if self.norm is not None:
            y_nchw = fresh_norm(self.norm, y_nchw)
        return add_shortcut(y_nchw, x_nchw) if self.residual else y_nchw

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``gather``, softmax over the positions, and ``distribute``, softmax over the descriptors."""
        gather_nkl, distribute_nkl = self._weights(x_nchw)
        size = x_nchw.shape[2:]
        return {"gather": torch.unflatten(gather_nkl, 2, size), "distribute": torch.unflatten(distribute_nkl, 2, size)}

    def _few_maps(self, x_nchw: Tensor, gather_nkl: Tensor, distribute_nlk: Tensor) -> Tensor:
        gathered_nck = weighted_sums(x_nchw, gather_nkl).transpose(1, 2)
        weight_mc, bias_m = affine(self.feature).filled()
        descriptor_nmk = torch.matmul(weight_mc, gathered_nck) + bias_m[:, None]
        if self.reconstruct is None:
            return project_back(distribute_nlk, descriptor_nmk, None, x_nchw)
        weight_cm, bias_c = affine(self.reconstruct)
        return project_back(distribute_nlk, torch.matmul(weight_cm, descriptor_nmk), bias_c, x_nchw)

    def _few_positions(self, x_nchw: Tensor, gather_nkl: Tensor, distribute_nlk: Tensor) -> Tensor:
        feature_nlm = project(x_nchw, *affine(self.feature))
        descriptor_nkm = torch.bmm(gather_nkl, feature_nlm)
        if self.reconstruct is None:
            return project_back(distribute_nlk, descriptor_nkm.transpose(1, 2), None, x_nchw)
        z_nlm = torch.bmm(distribute_nlk, descriptor_nkm)
        return project_back(z_nlm, *affine(self.reconstruct), x_nchw)

    def _weights(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("DoubleAttention", x_nchw, self.channels)
        weight, bias = join(affine(self.gather), affine(self.distribute))
        logits_nol = project_back(as_tokens(x_nchw), weight, bias, x_nchw).flatten(2)
        gather_nkl, distribute_nkl = logits_nol.chunk(2, dim=1)
        return torch.softmax(gather_nkl, dim=2), torch.softmax(distribute_nkl, dim=1)
