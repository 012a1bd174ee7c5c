"""Performer: softmax attention through random features (FAVOR+)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_choice, check_positive
from attnzoo_sequence.ops.masks import check_key_mask
from attnzoo_sequence.ops.prefix import accumulation_dtype, feature_attend, feature_weights


class Performer(nn.Module):
    """Approximate softmax attention by random positive features, in time linear in the length.

    ``out_i = phi(q_i) sum_j phi(k_j) v_j^T / (phi(q_i) . sum_j phi(k_j))``; with ``x' = x d^(-1/4)`` and ``u =
    projection x'``, the softmax kernel is ``phi(x) = F^(-1/2) (exp(u - |x'|^2 / 2 - c) + eps)``, the other ``phi(x) =
    relu(u) + eps``. ``c`` is the largest ``u`` of a query, or of all visible keys of a head, held constant in the
    backward pass.

    Args:
        head_dim: Channels of a head.
        num_features: Random features ``F``; None: ``d ln d``.
        kernel: The kernel that the features stand for.
        causal: Whether a query sees only keys up to its own position; the last query is aligned with the last key.
        eps: Floor of the features; None: 1e-4 for softmax, 1e-3 for relu.

    Shape:
        Query ``(N, H, L, D)``, key ``(N, H, M, D)``, value ``(N, H, M, E)``, mask ``(N, M)`` with True = may attend, to
        ``(N, H, L, E)``. A query without a visible key gives zeros.

    Raises:
        ValueError: ``kernel`` is unknown, or ``head_dim`` or ``num_features`` is not positive.

    Source:
        Choromanski et al., "Rethinking Attention with Performers", ICLR 2021, arXiv:2009.14794, eq. 5-7, lemma 1.
        Code: github.com/google-research/google-research @ 0c1bbe5, performer; lucidrains/performer-pytorch @ fc8b784.
        Deviations: a mask removes keys from the sum and from the normaliser. The projection is a buffer of the weights
        that changes only when ``redraw`` is called (the authors: every 1000 steps of training), so forward is pure.
    """

    projection: Tensor

    def __init__(
        self,
        head_dim: int,
        *,
        num_features: int | None = None,
        kernel: Literal["softmax", "relu"] = "softmax",
        causal: bool = False,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        check_positive("Performer", head_dim=head_dim, num_features=num_features, eps=eps)
        check_choice("Performer", "kernel", kernel, ("softmax", "relu"))
        features = max(1, int(head_dim * math.log(head_dim))) if num_features is None else num_features
        self.kernel = kernel
        self.causal = causal
        self.eps = (1e-4 if kernel == "softmax" else 1e-3) if eps is None else eps
        self.register_buffer("projection", torch.empty(features, head_dim))
        self.redraw()

    def reset_parameters(self) -> None:
        """Draw new features."""
        self.redraw()

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Draw new features: rows orthogonal within blocks of ``head_dim``, their lengths those of Gaussian vectors."""
        features, dim = self.projection.shape
        device, blocks = self.projection.device, -(-features // dim)
        normal = torch.randn(blocks, dim, dim, generator=generator, device=device, dtype=torch.float32)
        rows = torch.linalg.qr(normal).Q.transpose(-2, -1).reshape(-1, dim)[:features]
        length = torch.randn(features, dim, generator=generator, device=device, dtype=torch.float32).norm(dim=1)
        with torch.no_grad():
            self.projection.copy_(rows * length[:, None])

    def _features(self, query_nhld: Tensor, key_nhmd: Tensor, mask_nm: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features of queries and keys, in float32 at least; those of hidden keys are zero."""
        scale, dtype = query_nhld.shape[-1] ** -0.25, accumulation_dtype(query_nhld)
        query, key = query_nhld.to(dtype) * scale, key_nhmd.to(dtype) * scale
        projection_df = self.projection.to(query.dtype).t()
        query_u, key_u = query @ projection_df, key @ projection_df
        check_key_mask(mask_nm, key_nhmd)
        visible = None if mask_nm is None else mask_nm[:, None, :, None]
        if self.kernel == "relu":
            query, key = query_u.relu() + self.eps, key_u.relu() + self.eps
        elif key_u.numel():
            seen_u = key_u.detach() if visible is None else key_u.detach().masked_fill(~visible, -torch.inf)
            top = seen_u.amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(key_u.dtype).min)
            query_exponent = query_u - (
                query.square().sum(-1, keepdim=True) / 2 + query_u.detach().amax(-1, keepdim=True)
            )
            key_exponent = key_u - (key.square().sum(-1, keepdim=True) / 2 + top)
            if visible is not None:
                key_exponent = key_exponent.masked_fill(~visible, 0.0)
            query, key = query_exponent.exp() + self.eps, key_exponent.exp() + self.eps
        return query, key if visible is None else key * visible

    def forward(
        self, query_nhld: Tensor, key_nhmd: Tensor, value_nhme: Tensor, mask_nm: Tensor | None = None
    ) -> Tensor:
        """Return the weighted averages of the values, ``(n, h, l, e)``."""
        query, key = self._features(query_nhld, key_nhmd, mask_nm)
        return feature_attend(query, key, value_nhme, causal=self.causal, eps=0.0)

    def attention(
        self, query_nhld: Tensor, key_nhmd: Tensor, value_nhme: Tensor, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weights that ``forward`` never forms."""
        query, key = self._features(query_nhld, key_nhmd, mask_nm)
        weight_nhlm = feature_weights(query, key, causal=self.causal, eps=0.0)
        return {"attention": weight_nhlm.to(value_nhme.dtype)}
