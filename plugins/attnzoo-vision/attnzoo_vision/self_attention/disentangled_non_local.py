"""Disentangled non-local block (DNL)."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_input
from attnzoo_vision.ops.pairwise import attend
from attnzoo_vision.ops.position_pooling import position_weights, weighted_sum
from attnzoo_vision.ops.tokens import max_pool, project, project_back, tokens_to_map
from attnzoo_vision.ops.whitening import WHITENINGS, whiten

Whiten = Literal[
    "none",
    "channel",
    "channel-std",
    "position",
    "layer",
    "layer-std",
    "batch-layer",
    "batch-layer-std",
    "batch-norm",
    "batch-norm-affine",
]
Unary = Literal["none", "mask", "query", "mask-query", "transform"]
Output = Literal["none", "project", "norm", "project-norm"]


class DisentangledNonLocal(nn.Module):
    """Non-local block with whitened queries and keys, plus a term that is the same for all positions.

    ``y_i = x_i + gamma * sum_j softmax_j((q_i - mean q) . (k_j - mean k) / (sqrt(R) temperature)) v_j
    + sum_j softmax_j(w_m x_j + b_m) v_j``

    Args:
        channels: Channels of the input.
        hidden_channels: Channels R of queries and keys; half of ``channels`` if left out.
        whiten: What is taken from queries and keys: ``channel`` subtracts the mean over positions, ``position`` over
            channels, ``layer`` over both, ``batch-layer`` over the batch too; ``-std`` also divides by the deviation.
            A list is applied in its order; one batch norm at most.
        temperature: Divisor of the logits beside ``sqrt(R)``.
        pool_size: Window of the max pooling of keys and values.
        pairwise: Keep the pairwise term; without it the unary term is all.
        gamma: Multiply the pairwise term by a learned factor that starts at 0. Without it, as in mmsegmentation, the
            factor is 1, and the norm of an ``output`` with one starts at zero, so that the block is the identity.
        unary: The term that all positions share: from a learned ``mask``, from the mean ``query``, both, or the mask's
            mean of the input through two layers (``transform``).
        output: ``project`` values have R channels and are projected back, ``norm`` adds a batch norm.
        eps: Constant in whitening and in the layer norm of ``transform``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; H and W at least ``pool_size``.

    Raises:
        ValueError: A choice is not known, a size is below 1, or two choices exclude each other.

    Source:
        Yin et al., "Disentangled Non-Local Neural Networks", ECCV 2020, arXiv:2006.06668, eq. 9-12.
        Authors' code: github.com/yinmh17/DNL-Semantic-Segmentation @ 594a359, model/seg/ops/nonlocal_block.py;
        github.com/Howal/DNL-Object-Detection @ 6ae8884, mmdet/ops/nl_gc_block.py.
        Deviations: none; a mean that moves all keys alike cancels in the softmax and is not computed.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int | None = None,
        whiten: Whiten | list[Whiten] = "channel",
        temperature: float = 0.05,
        pool_size: int = 1,
        pairwise: bool = True,
        gamma: bool = True,
        unary: Unary = "mask",
        output: Output = "none",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_at_least(
            "DisentangledNonLocal", 1, channels=channels, hidden_channels=hidden_channels, pool_size=pool_size
        )
        kinds = [whiten] if isinstance(whiten, str) else list(whiten)
        for kind in kinds:
            check_choice("DisentangledNonLocal", "whiten", kind, Whiten.__args__)  # type: ignore[attr-defined]
        check_choice("DisentangledNonLocal", "unary", unary, Unary.__args__)  # type: ignore[attr-defined]
        check_choice("DisentangledNonLocal", "output", output, Output.__args__)  # type: ignore[attr-defined]
        hidden = max(1, channels // 2) if hidden_channels is None else hidden_channels
        _check_combination(kinds, unary, "project" in output and hidden != channels, pairwise)
        projected = "project" in output
        self.whiten, self.pool_size, self.unary, self.eps = tuple(kinds), pool_size, unary, eps
        self.channels, self.scale, self.zero_norm = channels, hidden**-0.5 / temperature, not gamma
        self.query = nn.Linear(channels, hidden) if pairwise else None
        self.key = nn.Linear(channels, hidden) if pairwise else None
        self.value = nn.Linear(channels, hidden if projected else channels, bias=projected)
        self.gamma = nn.Parameter(torch.zeros(1)) if pairwise and gamma else None
        self.mask = nn.Linear(channels, 1) if unary not in ("none", "query") else None
        self.transform = _transform(channels, hidden, eps) if unary == "transform" else None
        normed, affine = pairwise and any("norm" in kind for kind in kinds), "batch-norm-affine" in kinds
        self.query_norm = BatchNorm1d(hidden, affine=affine) if normed else None
        self.key_norm = BatchNorm1d(hidden, affine=affine) if normed else None
        self.out = nn.Linear(hidden, channels, bias=False) if projected else None
        self.out_norm = BatchNorm2d(channels) if "norm" in output else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the authors do: small weights, no pairwise term at the start; or as mmsegmentation does."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, BatchNorm1d, BatchNorm2d)):
                module.reset_parameters()
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)
        if self.zero_norm and self.out_norm is not None:
            nn.init.zeros_(self.out_norm.weight)
            if self.out is not None:
                nn.init.kaiming_normal_(self.out.weight, mode="fan_out", nonlinearity="relu")
            if self.mask is not None:
                self.mask.reset_parameters()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw`` plus the pairwise and the unary term."""
        check_input("DisentangledNonLocal", x_nchw, self.channels)
        key_nchw = max_pool(x_nchw, self.pool_size, "DisentangledNonLocal")
        query_nlr, key_nmr, value_nme, mean_n1r = self._project(x_nchw, key_nchw)
        unary_ne = self._unary(key_nchw, key_nmr, value_nme, mean_n1r)
        if query_nlr is None or key_nmr is None:
            assert unary_ne is not None
            y_nchw = self._output(unary_ne.unsqueeze(1), unary_ne[:, :, None, None])
            return x_nchw + y_nchw
        if self.gamma is not None:
            value_nme = self.gamma * value_nme
        if unary_ne is not None:
            # the weights of a query sum to one, so that what all values share is added to every position
            value_nme = value_nme + unary_ne.unsqueeze(1)
        return x_nchw + self._output(attend(query_nlr, key_nmr, value_nme, self.scale), x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, a row of weights for each position, and ``unary``, the weights that all share."""
        check_input("DisentangledNonLocal", x_nchw, self.channels)
        key_nchw = max_pool(x_nchw, self.pool_size, "DisentangledNonLocal")
        query_nlr, key_nmr, _, mean_n1r = self._project(x_nchw, key_nchw)
        maps = {}
        if query_nlr is not None and key_nmr is not None:
            maps["pairwise"] = torch.softmax(torch.bmm(query_nlr, key_nmr.transpose(1, 2)) * self.scale, dim=2)
        if self.mask is not None:
            maps["unary"] = position_weights(key_nchw, *affine(self.mask))
        elif mean_n1r is not None and key_nmr is not None and self.unary == "query":
            maps["unary"] = _query_weights(mean_n1r, key_nmr)
        return maps

    def _project(self, x_nchw: Tensor, key_nchw: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        """Return whitened queries and keys, values, and the mean of the queries."""
        value_nme = project(key_nchw, *affine(self.value))
        if self.query is None or self.key is None:
            return None, None, value_nme, None
        query_nlr = project(x_nchw, *affine(self.query))
        key_nmr = project(key_nchw, *affine(self.key))
        mean_n1r = None
        for kind in self.whiten:
            if kind in WHITENINGS:
                query_nlr, mean_n1r = whiten(query_nlr, kind, self.eps)
                if len(self.whiten) > 1 or "std" in kind or kind == "position":
                    key_nmr = whiten(key_nmr, kind, self.eps)[0]
            elif self.query_norm is not None and self.key_norm is not None:
                query_nlr = self.query_norm(query_nlr.transpose(1, 2)).transpose(1, 2)
                key_nmr = self.key_norm(key_nmr.transpose(1, 2)).transpose(1, 2)
        return query_nlr, key_nmr, value_nme, mean_n1r

    def _unary(
        self, key_nchw: Tensor, key_nmr: Tensor | None, value_nme: Tensor, mean_n1r: Tensor | None
    ) -> Tensor | None:
        terms_ne = []
        if "query" in self.unary and mean_n1r is not None and key_nmr is not None:
            terms_ne.append(torch.bmm(_query_weights(mean_n1r, key_nmr), value_nme).squeeze(1))
        if self.mask is not None:
            weight_n1m = position_weights(key_nchw, *affine(self.mask))
            if self.transform is not None:
                terms_ne.append(self.transform(weighted_sum(key_nchw, weight_n1m)))
            else:
                terms_ne.append(torch.bmm(weight_n1m, value_nme).squeeze(1))
        return sum(terms_ne[1:], terms_ne[0]) if terms_ne else None

    def _output(self, y_nle: Tensor, like_nchw: Tensor) -> Tensor:
        if self.out is not None:
            y_nchw = project_back(y_nle, *affine(self.out), like_nchw)
        else:
            y_nchw = tokens_to_map(y_nle, like_nchw)
        return y_nchw if self.out_norm is None else self.out_norm(y_nchw)


def _query_weights(mean_n1r: Tensor, key_nmr: Tensor) -> Tensor:
    return torch.softmax(torch.bmm(mean_n1r.expand(-1, 1, key_nmr.shape[2]), key_nmr.transpose(1, 2)), dim=2)


def _transform(channels: int, hidden: int, eps: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.LayerNorm(hidden, eps=eps), nn.ReLU(), nn.Linear(hidden, channels)
    )


def _check_combination(kinds: list[Whiten], unary: str, narrow: bool, pairwise: bool) -> None:
    message = ""
    means = [kind for kind in kinds if kind in WHITENINGS]
    if sum("norm" in kind for kind in kinds) > 1:
        message = f"whiten={kinds} has two batch norms; keep one"
    elif "query" in unary and (means[-1:] not in (["channel"], ["layer"]) or not pairwise):
        message = f"unary={unary!r} with pairwise={pairwise} and whiten={kinds}, expected True and 'channel' or "
        message += "'layer'; use unary='mask' or these"
    elif unary == "transform" and narrow:
        message = "unary='transform' has the channels of the input, projected values hidden_channels; make them equal"
    elif unary == "none" and not pairwise:
        message = "unary='none' with pairwise=False leaves no term; keep one of them"
    if message:
        raise ValueError(f"DisentangledNonLocal: {message}")
