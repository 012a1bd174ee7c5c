"""Expectation-maximisation attention unit (EMANet)."""

import math

import torch
from torch import Tensor, nn

from attnzoo.layers import affine
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.joined_norm import project_and_norm
from attnzoo_vision.ops.rectify import rectify_
from attnzoo_vision.ops.tokens import add_shortcut, as_tokens, project_back


class EMAUnit(nn.Module):
    """Rebuild the map from a few bases that expectation-maximisation finds in it, and add the result.

    With ``X = W x + b`` and bases ``mu``, repeat: ``Z = softmax_k(X^T mu)``, ``mu = X (Z / (1e-6 + sum_l Z))``,
    ``mu = mu / (1e-6 + |mu|)``. Then ``y = relu(x + batch_norm(W_out relu(mu Z^T)))``.

    No gradient passes the iterations, so ``W`` and ``b`` stay as they were made and ``x`` gets that of the sum
    alone. The starting bases are a buffer; a training loop moves it with :meth:`update_bases` after each step.

    Args:
        channels: Channels of the input.
        num_bases: Number of bases.
        iterations: Number of repetitions.
        momentum: Weight of the new statistics in the running ones of the batch norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``num_bases`` or ``iterations`` is below 1.

    Source:
        Li et al., "Expectation-Maximization Attention Networks for Semantic Segmentation", ICCV 2019, arXiv:1907.13426.
        Authors' code: github.com/XiaLiPKU/EMANet @ f09ffac, network.py, EMAU.
        Deviations: the projection ``W`` is applied to the bases instead of the map and stored in buffers, as it never
        learns; forward returns the map alone (:meth:`attention` has the bases).
    """

    bases: Tensor
    embed_weight: Tensor
    embed_bias: Tensor

    def __init__(self, channels: int, *, num_bases: int = 64, iterations: int = 3, momentum: float = 3e-4) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("EMAUnit", 1, channels=channels, num_bases=num_bases, iterations=iterations)
        self.iterations = iterations
        self.register_buffer("embed_weight", torch.empty(channels, channels))
        self.register_buffer("embed_bias", torch.empty(channels))
        self.out = nn.Linear(channels, channels, bias=False)
        self.norm = BatchNorm2d(channels, momentum=momentum)
        self.register_buffer("bases", torch.empty(channels, num_bases))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the authors do."""
        channels, num_bases = self.bases.shape
        nn.init.normal_(self.embed_weight, std=math.sqrt(2 / channels))
        nn.init.uniform_(self.embed_bias, -(channels**-0.5), channels**-0.5)
        nn.init.normal_(self.out.weight, std=math.sqrt(2 / channels))
        self.norm.reset_parameters()
        with torch.no_grad():
            self.bases.normal_(std=math.sqrt(2 / num_bases))
            self.bases.div_(1e-6 + self.bases.norm(dim=0, keepdim=True))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of ``x_nchw`` and the projected reconstruction, rectified."""
        bases_nck, weight_nlk = self._iterate(x_nchw)
        rebuilt_nchw = rectify_(project_back(weight_nlk, bases_nck, None, x_nchw))
        y_nchw = project_and_norm(as_tokens(rebuilt_nchw), *affine(self.out), self.norm, x_nchw)
        return rectify_(add_shortcut(y_nchw, x_nchw))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``responsibility``, the weight of each basis at each pixel, and the found ``bases``."""
        bases_nck, weight_nlk = self._iterate(x_nchw)
        return {"responsibility": weight_nlk, "bases": bases_nck}

    @torch.no_grad()
    def update_bases(self, bases_nck: Tensor, momentum: float = 0.9) -> None:
        """Move the starting bases towards the mean of the found ones; ``momentum`` is the weight of the old value."""
        self.bases.mul_(momentum).add_(bases_nck.mean(dim=0), alpha=1 - momentum)

    @torch.no_grad()
    def _iterate(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("EMAUnit", x_nchw, self.channels)
        x_ncl, bases_ck = x_nchw.flatten(2), self.bases
        bases_nck, weight_ncc = (t.expand(x_ncl.shape[0], -1, -1) for t in (bases_ck, self.embed_weight))
        few = not torch.compiler.is_exporting() and x_ncl.shape[2] <= 2 * self.iterations * bases_ck.shape[1]
        if few:  # it costs less to embed the map once than the bases in every step
            x_ncl = torch.baddbmm(self.embed_bias[:, None], weight_ncc, x_ncl)
        pixels = max(1, x_ncl.shape[2])
        for _ in range(self.iterations):
            if few:
                logits_nlk = torch.bmm(x_ncl.transpose(1, 2), bases_nck)
            else:
                query_nck = torch.bmm(weight_ncc.transpose(1, 2), bases_nck)
                bias_n1k = (self.embed_bias[:, None] * bases_nck).sum(dim=1, keepdim=True)
                logits_nlk = torch.baddbmm(bias_n1k, x_ncl.transpose(1, 2), query_nck)
            weight_nlk = torch.softmax(logits_nlk, dim=2)
            # the weights of a basis are divided by their sum after the product: that takes no map of shares
            sum_n1k = weight_nlk.sum(dim=1, keepdim=True, dtype=torch.promote_types(weight_nlk.dtype, torch.float32))
            total_n1k = 1e-6 + sum_n1k
            mean_nck = torch.baddbmm(bases_nck, x_ncl, weight_nlk, beta=0, alpha=1 / pixels)
            bases_nck = (mean_nck * (pixels / total_n1k)).to(mean_nck.dtype)
            if not few:
                share_n1k = (sum_n1k / total_n1k).to(mean_nck.dtype)
                bases_nck = torch.bmm(weight_ncc, bases_nck) + self.embed_bias[:, None] * share_n1k
            bases_nck = bases_nck / (1e-6 + bases_nck.norm(dim=1, keepdim=True))
        return bases_nck, weight_nlk
