"""SimAM: every element weighted by how far it stands out from its channel, without parameters."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_input
from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.differentiate import differentiate, is_last_gradient
from attnzoo_vision.ops.layout import in_layout_of, is_channels_last

_PIECE_BYTES = 1 << 21  # enough rows for the operators, few enough for the cache
_PIECEWISE = (torch.float32, torch.float64)


class SimAM(nn.Module):
    """Scale each element by a weight that grows with its squared distance from the mean of its channel.

    ``d = (x - mean_hw(x))^2;  y = x * sigmoid(d / (4 (sum_hw(d) / (HW - 1) + e_lambda)) + 1/2)``

    Args:
        e_lambda: Added to the variance; the larger, the nearer all weights are to sigmoid(1/2). With 0, a channel of
            one value gives NaN, as theirs does.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any C, H and W from 1 on.

    Raises:
        ValueError: ``e_lambda`` is negative.

    Source:
        Yang et al., "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021,
        eq. 5-6.
        Authors' code: github.com/ZjjConan/SimAM @ ae98f43, networks/attentions/simam_module.py.
        Deviations: on 1x1 maps the variance is taken as 0 (0/0 there).
    """

    def __init__(self, *, e_lambda: float = 1e-4) -> None:
        super().__init__()
        if e_lambda < 0:
            message = f"SimAM: e_lambda={e_lambda} is negative; the authors use 1e-4 or 0.1"
            raise ValueError(message)
        self.e_lambda = e_lambda

    def extra_repr(self) -> str:
        """Return the arguments for ``print``."""
        return f"e_lambda={self.e_lambda}"

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the weight of every element, ``element``: ``(N, C, H, W)`` in (0.62, 1)."""
        check_input("SimAM", x_nchw)
        return {"element": _element_weight(x_nchw, self.e_lambda)}

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each element scaled by its weight."""
        check_input("SimAM", x_nchw)
        if not runs_plainly() or x_nchw.device.type != "cpu" or x_nchw.dtype not in _PIECEWISE:
            return _weigh(x_nchw, self.e_lambda)
        if torch.is_grad_enabled() and x_nchw.requires_grad:
            weighted: Tensor = _SimAMFunction.apply(x_nchw, self.e_lambda)  # type: ignore[no-untyped-call]
            return weighted
        return _forward_by_pieces(x_nchw, self.e_lambda)


def _element_weight(x_nchw: Tensor, e_lambda: float) -> Tensor:
    pixels = x_nchw.shape[2] * x_nchw.shape[3]
    squared_nchw = (x_nchw - x_nchw.mean((2, 3), keepdim=True)).square()
    variance_nc11 = squared_nchw.mean((2, 3), keepdim=True) * (pixels / max(pixels - 1, 1))
    return torch.sigmoid(squared_nchw * (0.25 / (variance_nc11 + e_lambda)) + 0.5)


def _weigh(x_nchw: Tensor, e_lambda: float) -> Tensor:
    return x_nchw * _element_weight(x_nchw, e_lambda)


class _Context(torch.autograd.function.FunctionCtx):
    e_lambda: float
    saved_tensors: tuple[Tensor]


class _SimAMFunction(torch.autograd.Function):
    """SimAM in cache-sized pieces: saves the input alone, and both passes write one map."""

    @staticmethod
    def forward(x_nchw: Tensor, e_lambda: float) -> Tensor:
        return _forward_by_pieces(x_nchw, e_lambda)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.e_lambda = inputs[1]

    @staticmethod
    def backward(ctx: _Context, grad_nchw: Tensor) -> tuple[Tensor | None, None]:
        (x_nchw,) = ctx.saved_tensors
        if not is_last_gradient(grad_nchw):
            plain = partial(_weigh, e_lambda=ctx.e_lambda)
            return differentiate(plain, (x_nchw,), grad_nchw)[0], None
        return _backward_by_pieces(x_nchw, grad_nchw, ctx.e_lambda), None


def _rows(*tensors: Tensor) -> list[Tensor]:
    """Return views ``(rows, pixels, channels)`` of maps that share the memory format of the first."""
    n, c, h, w = tensors[0].shape
    if tensors[0].is_contiguous():
        return [t.view(n * c, h * w, 1) for t in tensors]
    return [t.permute(0, 2, 3, 1).view(n, h * w, c) for t in tensors]


def _dense(x_nchw: Tensor) -> Tensor:
    """Return the map itself where it is dense in NCHW or channels-last order, else a contiguous copy."""
    return x_nchw if is_channels_last(x_nchw) else x_nchw.contiguous()


def _pieces(*rows: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Return the rows in pieces of about ``_PIECE_BYTES``."""
    step = max(1, _PIECE_BYTES // max(1, rows[0].shape[1:].numel() * rows[0].element_size()))
    return zip(*(torch.split(r, step) for r in rows), strict=True)


def _inverse(squared: Tensor, e_lambda: float) -> Tensor:
    """Return ``1 / (4 (variance + e_lambda))`` of each row and channel."""
    return squared.sum(1, keepdim=True).div_(max(squared.shape[1] - 1, 1)).add_(e_lambda).mul_(4).reciprocal_()


def _forward_by_pieces(x_nchw: Tensor, e_lambda: float) -> Tensor:
    x_nchw = _dense(x_nchw)
    out_nchw = torch.empty_like(x_nchw)
    for x, out in _pieces(*_rows(x_nchw, out_nchw)):
        torch.sub(x, x.mean(1, keepdim=True), out=out)
        out.square_()
        out.mul_(_inverse(out, e_lambda)).add_(0.5).sigmoid_().mul_(x)
    return out_nchw


def _backward_by_pieces(x_nchw: Tensor, grad_nchw: Tensor, e_lambda: float) -> Tensor:
    """Return the gradient of the input: with d = x - mean, a = 1 / (4 (var + lambda)), s = sigmoid(a d^2 + 1/2) and
    q = g x s (1 - s), it is ``g s + 2 a (q d - mean(q d)) - 8 a^2 sum(q d^2) d / (n - 1)``."""
    x_nchw = _dense(x_nchw)
    grad_nchw = in_layout_of(x_nchw, grad_nchw)
    out_nchw = torch.empty_like(x_nchw)
    n = x_nchw.shape[2] * x_nchw.shape[3]
    for x, grad, out in _pieces(*_rows(x_nchw, grad_nchw, out_nchw)):
        d = x - x.mean(1, keepdim=True)
        squared = d.square()
        a = _inverse(squared, e_lambda)
        weight = (squared * a).add_(0.5).sigmoid_()
        torch.mul(grad, weight, out=out)
        q = weight.neg_().add_(1).mul_(out).mul_(x)
        slope = squared.mul_(q).sum(1, keepdim=True)
        q.mul_(d)
        drift = q.sum(1, keepdim=True)
        out.add_(q.mul_(a * 2)).add_(d.mul_(a * a * slope * (-8 / max(n - 1, 1)))).sub_(a * drift * (2 / n))
    return out_nchw
