"""Non-local block with its four pairwise functions."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import Affine, affine, chain, join, reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm1d
from attnzoo_vision.ops.checks import check_at_least, check_choice, check_divides, check_map
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.joined_norm import project_and_norm
from attnzoo_vision.ops.pairwise import attend, dot_product, pairwise_relu_mean
from attnzoo_vision.ops.tokens import add_shortcut, as_tokens, max_pool, project, project_back

Mode = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]


class NonLocal(nn.Module):
    """Add to each position a weighted sum over all positions; the weights come from pairs of positions.

    ``y_i = x_i + norm(W_out sum_j w_ij g_j + b_out)`` with ``theta, phi, g`` linear in ``x`` and

    - embedded_gaussian: ``w_i = softmax_j(scale * theta_i . phi_j)``
    - gaussian: ``w_i = softmax_j(scale * x_i . x_j)``
    - dot_product: ``w_ij = theta_i . phi_j / M`` for M keys
    - concatenation: ``w_ij = relu(w . [theta_i, phi_j]) / M``

    No form makes the map of all pairs in ``forward``: the softmax forms are fused, the dot product is reassociated, and
    the rectified sums of the concatenation are read off prefix sums of the sorted keys.

    Args:
        channels: Channels of the input.
        hidden_channels: Channels of theta, phi and g; half of ``channels`` if left out.
        mode: The pairwise function.
        scale: Factor of the logits in the softmax; ``hidden_channels ** -0.5`` (gaussian: 1) if left out.
        pool_size: Max pooling of keys and values: one size for all spatial axes, or one for each; 1 pools nothing.
        pool_first: Pool before the projections phi and g (as the authors do) instead of behind them.
        norm: What follows the output projection: ``batch`` norm, ``group`` norm, ``layer`` norm over C and all
            positions without weights, or ``none``.
        groups: Groups of the group norm.
        out_bias: Give the output projection a bias.
        eps: Constant in the norm.
        momentum: Weight of the new statistics in the running ones of the batch norm.

    Shape:
        ``(N, C, L)``, ``(N, C, H, W)`` or ``(N, C, T, H, W)`` to the same; each axis at least as long as its pool size.

    Raises:
        ValueError: ``mode`` or ``norm`` is none of its choices, a size is below 1, ``groups`` does not divide
            ``channels`` for a ``group`` norm, or ``pool_size`` has not one number for each spatial axis of the input.

    Source:
        Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971, eq. 1-6. Authors' code:
        github.com/facebookresearch/video-nonlocal-net @ c253ed5, lib/models/nonlocal_helper.py.
        Deviations: none from the code; the paper has no scale, the released models have. The authors released
        embedded_gaussian and dot_product; the other two follow the paper.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int | None = None,
        mode: Mode = "embedded_gaussian",
        scale: float | None = None,
        pool_size: int | list[int] = 1,
        pool_first: bool = True,
        norm: Literal["batch", "group", "layer", "none"] = "batch",
        groups: int = 32,
        out_bias: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_choice("NonLocal", "mode", mode, ("embedded_gaussian", "gaussian", "dot_product", "concatenation"))
        check_choice("NonLocal", "norm", norm, ("batch", "group", "layer", "none"))
        check_at_least(
            "NonLocal", 1, channels=channels, hidden_channels=hidden_channels, pool_size=pool_size, groups=groups
        )
        hidden = max(1, channels // 2) if hidden_channels is None else hidden_channels
        self.mode = mode
        self.scale = (1.0 if mode == "gaussian" else hidden**-0.5) if scale is None else scale
        self.pool_size, self.pool_first, self.eps = pool_size, pool_first, eps
        embedded = mode != "gaussian"
        self.theta = nn.Linear(channels, hidden) if embedded else None
        self.phi = nn.Linear(channels, hidden) if embedded else None
        self.g = nn.Linear(channels, hidden)
        self.pair = nn.Linear(2 * hidden, 1, bias=False) if mode == "concatenation" else None
        self.out = nn.Linear(hidden, channels, bias=out_bias)
        self.norm: _BatchNorm | GroupNorm | None = None
        if norm == "group":
            check_divides("NonLocal", "groups", groups, "channels", channels)
            self.norm = GroupNorm(groups, channels, eps=eps)
        elif norm == "batch":
            self.norm = _BatchNorm(channels, eps=eps, momentum=momentum)
        self.layer_norm = norm == "layer"
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as the authors do: small weights; a zero norm or output makes the start the identity."""
        for layer in (self.theta, self.phi, self.g, self.out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.norm is not None:
            nn.init.zeros_(self.norm.weight)
        elif not self.layer_norm:
            nn.init.zeros_(self.out.weight)

    def forward(self, x_ncs: Tensor) -> Tensor:
        """Return ``x_ncs`` plus the projected weighted sums."""
        check_map("NonLocal", x_ncs, self.channels)
        y_nlr = self._sum(x_ncs)
        if self.norm is not None:
            return add_shortcut(project_and_norm(y_nlr, *affine(self.out), self.norm, x_ncs), x_ncs)
        y_ncs = project_back(y_nlr, *affine(self.out), x_ncs)
        if self.layer_norm:
            y_ncs = F.group_norm(y_ncs, 1, eps=self.eps)
        return y_ncs + x_ncs

    def attention(self, x_ncs: Tensor) -> dict[str, Tensor]:
        """Return ``pairwise``, the weight of every key (column) for every position (row)."""
        check_map("NonLocal", x_ncs, self.channels)
        key_ncs = max_pool(x_ncs, self.pool_size, "NonLocal") if self.pool_first else x_ncs
        if self.theta is None or self.phi is None:
            pooled_ncs = max_pool(x_ncs, self.pool_size, "NonLocal")
            logits_nlm = torch.bmm(as_tokens(x_ncs), as_tokens(pooled_ncs).transpose(1, 2))
            return {"pairwise": torch.softmax(logits_nlm * self.scale, dim=2)}
        theta_nlr = project(x_ncs, *affine(self.theta))
        phi_nmr = self._embed_keys(key_ncs, self.phi)
        if self.pair is not None:
            theta_pair, phi_pair = _halves(self.pair)
            sums_nlm = F.linear(theta_nlr, *theta_pair) + F.linear(phi_nmr, *phi_pair).transpose(1, 2)
            return {"pairwise": torch.relu(sums_nlm) / phi_nmr.shape[1]}
        logits_nlm = torch.bmm(theta_nlr, phi_nmr.transpose(1, 2))
        if self.mode == "dot_product":
            return {"pairwise": logits_nlm / phi_nmr.shape[1]}
        return {"pairwise": torch.softmax(logits_nlm * self.scale, dim=2)}

    def _sum(self, x_ncs: Tensor) -> Tensor:
        """Return the weighted sums over the keys, ``(N, L, R)``."""
        pooled_ncs = max_pool(x_ncs, self.pool_size, "NonLocal")
        key_ncs = pooled_ncs if self.pool_first else x_ncs
        if self.theta is None or self.phi is None:
            return attend(as_tokens(x_ncs), as_tokens(pooled_ncs), self._embed_keys(key_ncs, self.g), self.scale)
        if self.pair is not None:
            return self._concatenation(x_ncs, key_ncs, self.theta, self.phi, self.pair)
        if pooled_ncs is x_ncs:
            weight, bias = join(*(affine(layer) for layer in (self.theta, self.phi, self.g)))
            theta_nlr, phi_nmr, g_nmr = project(x_ncs, weight, bias).chunk(3, dim=2)
        else:
            theta_nlr = project(x_ncs, *affine(self.theta))
            phi_nmr, g_nmr = self._embed_keys(key_ncs, self.phi), self._embed_keys(key_ncs, self.g)
        if self.mode == "dot_product":
            return dot_product(theta_nlr, phi_nmr, g_nmr)
        return attend(theta_nlr, phi_nmr, g_nmr, self.scale)

    def _concatenation(
        self, x_ncs: Tensor, key_ncs: Tensor, theta: nn.Linear, phi: nn.Linear, pair: nn.Linear
    ) -> Tensor:
        """Return the sums of the concatenation: ``w . [theta_i, phi_j]`` is a number of i plus a number of j."""
        theta_pair, phi_pair = _halves(pair)
        theta_nl1 = project(x_ncs, *chain(affine(theta), theta_pair))
        if self.pool_first or self.pool_size == 1:
            phi_nm1 = project(key_ncs, *chain(affine(phi), phi_pair))
        else:
            phi_nm1 = F.linear(self._embed_keys(key_ncs, phi), *phi_pair)
        g_nmr = self._embed_keys(key_ncs, self.g)
        return pairwise_relu_mean(theta_nl1.squeeze(2), phi_nm1.squeeze(2), g_nmr)

    def _embed_keys(self, key_ncs: Tensor, layer: nn.Linear) -> Tensor:
        y_nmr = project(key_ncs, *affine(layer))
        if self.pool_first or self.pool_size == 1:
            return y_nmr
        y_nrs = torch.unflatten(y_nmr.transpose(1, 2), 2, key_ncs.shape[2:])
        return as_tokens(max_pool(y_nrs, self.pool_size, "NonLocal"))


def _halves(pair: nn.Linear) -> tuple[Affine, Affine]:
    """Return what a layer of ``[theta, phi]`` does to each of the two; their sum is its answer."""
    weight_12r, bias_1 = affine(pair)
    theta_1r, phi_1r = weight_12r.chunk(2, dim=1)
    return Affine(theta_1r, bias_1), Affine(phi_1r, None)


class _BatchNorm(BatchNorm1d):
    """Batch norm of maps with any number of spatial axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass
