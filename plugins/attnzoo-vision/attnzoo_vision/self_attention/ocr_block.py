"""Object-contextual representation block (OCRNet)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input, check_probability
from attnzoo_vision.ops.joined_norm import before_norm, is_joinable
from attnzoo_vision.ops.pairwise import attend
from attnzoo_vision.ops.position_pooling import weighted_sums
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.resize import resize
from attnzoo_vision.ops.tokens import as_tokens, max_pool, project, project_back, tokens_to_map


class OCRBlock(nn.Module):
    """Describe each class by the pixels it claims, and each pixel by the classes that are like it.

    ``o_k = sum_l softmax_l(gather_scale * logits_kl) x_l``;
    ``z_i = u(sum_k softmax_k(p(x_i) . r(o_k) / sqrt(R)) d(o_k))``; ``y = dropout(relu(batch_norm(W [z, x])))``,
    where ``u, p, r, d`` are linear layers with batch norm and ReLU (``p`` and ``r`` twice)

    Args:
        channels: Channels of the features.
        hidden_channels: Channels R of queries, keys and values; half of ``channels`` if left out.
        out_channels: Channels of the result; ``channels`` if left out.
        pool_size: Window of the max pooling before the pixels are compared; the result is resized back.
        gather_scale: Factor of the class logits.
        dropout: Probability of dropping a channel of the result, in training.

    Shape:
        Features ``(N, C, H, W)`` and class logits ``(N, K, H, W)`` to ``(N, O, H, W)``; H and W at least ``pool_size``.

    Raises:
        ValueError: A size is below 1.

    Source:
        Yuan et al., "Object-Contextual Representations for Semantic Segmentation", ECCV 2020, arXiv:1909.11065.
        Authors' code: github.com/HRNet/HRNet-Semantic-Segmentation @ 0bbb288, lib/models/seg_hrnet_ocr.py.
        Deviations: gathering and attention in one block; the joined map ``[z, x]`` is never made.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int | None = None,
        out_channels: int | None = None,
        pool_size: int = 1,
        gather_scale: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("OCRBlock", 1, channels=channels, hidden_channels=hidden_channels, out_channels=out_channels)
        check_at_least("OCRBlock", 1, pool_size=pool_size)
        check_probability("OCRBlock", dropout=dropout)
        hidden = max(1, channels // 2) if hidden_channels is None else hidden_channels
        outputs = channels if out_channels is None else out_channels
        self.pool_size, self.gather_scale, self.dropout = pool_size, gather_scale, dropout
        self.scale = hidden**-0.5
        self.pixel = nn.Sequential(_Unit(channels, hidden), _Unit(hidden, hidden))
        self.object = nn.Sequential(_Unit(channels, hidden), _Unit(hidden, hidden))
        self.down = _Unit(channels, hidden)
        self.up = _Unit(hidden, channels)
        self.out = nn.Linear(2 * channels, outputs, bias=False)
        self.norm = BatchNorm2d(outputs)

    def reset_parameters(self) -> None:
        """Draw all layers anew, as PyTorch does."""
        reset_layers(self)

    def forward(self, x_nchw: Tensor, logits_nkhw: Tensor) -> Tensor:
        """Return the features joined with what each pixel takes from the class descriptions."""
        _, proxy_nkc = self._gather(x_nchw, logits_nkhw)
        query_nlr, key_nkr, pooled_nchw = self._embed(x_nchw, proxy_nkc)
        context_nlc = self.up(attend(query_nlr, key_nkr, self.down(proxy_nkc), self.scale))
        if pooled_nchw is not x_nchw:
            context_nlc = as_tokens(resize(tokens_to_map(context_nlc, pooled_nchw), x_nchw.shape[2:]))
        joinable, out = is_joinable(self.norm), affine(self.out)
        weight, bias = before_norm(*out, self.norm) if joinable else out
        context_weight, x_weight = weight.chunk(2, dim=1)
        y_nchw = project_back(context_nlc, context_weight, bias, x_nchw)
        y_nchw = y_nchw + project_back(as_tokens(x_nchw), x_weight, None, x_nchw)
        if not joinable:
            y_nchw = self.norm(y_nchw)
        return F.dropout2d(rectify(y_nchw), self.dropout, self.training)

    def attention(self, x_nchw: Tensor, logits_nkhw: Tensor) -> dict[str, Tensor]:
        """Return ``gather`` (classes over pixels), ``proxy`` of each class, and ``object`` (pixels over classes)."""
        gather_nkl, proxy_nkc = self._gather(x_nchw, logits_nkhw)
        query_nlr, key_nkr, _ = self._embed(x_nchw, proxy_nkc)
        logits_nlk = torch.bmm(query_nlr, key_nkr.transpose(1, 2)) * self.scale
        gather_nkhw = torch.unflatten(gather_nkl, 2, logits_nkhw.shape[2:])
        return {"gather": gather_nkhw, "proxy": proxy_nkc, "object": torch.softmax(logits_nlk, dim=2)}

    def _gather(self, x_nchw: Tensor, logits_nkhw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("OCRBlock", x_nchw, self.channels)
        check_input("OCRBlock", logits_nkhw, name="logits")
        gather_nkl = torch.softmax(self.gather_scale * logits_nkhw.flatten(2), dim=2)
        return gather_nkl, weighted_sums(x_nchw, gather_nkl)

    def _embed(self, x_nchw: Tensor, proxy_nkc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled_nchw = max_pool(x_nchw, self.pool_size, "OCRBlock")
        return self.pixel(as_tokens(pooled_nchw)), self.object(proxy_nkc), pooled_nchw


class _Unit(nn.Module):
    """Linear layer on tokens with batch norm and ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, out_channels, bias=False)
        self.norm = BatchNorm1d(out_channels)

    def forward(self, x_nlc: Tensor) -> Tensor:
        if not is_joinable(self.norm):
            y_nlo = project(x_nlc.transpose(1, 2), *affine(self.linear))
            return rectify(torch.unflatten(self.norm(y_nlo.flatten(0, 1)), 0, y_nlo.shape[:2]))
        return rectify(project(x_nlc.transpose(1, 2), *before_norm(*affine(self.linear), self.norm)))
