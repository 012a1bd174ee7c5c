"""Convolutions that a compiler for a CPU leaves as they are, and the whole map in its layout.

One convolution in a graph, be it of a plane or of a strip, makes the compiler copy all maps around it to channels-last.
As an operator of torch it is not seen.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from attnzoo.layers import is_hooked, is_plain, keeps_size
from attnzoo_vision.ops.compiling import compiled_for_cpu, runs_plainly
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.tokens import as_tokens, project_back

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d


def convolve(layer: nn.Module, x: Tensor) -> Tensor:
    """Return ``layer(x)``; in training, one plane by 1x1 is a product, a line of its own for each channel a column.

    The gradients of these are quicker.
    """
    if not is_untouched(layer):
        y: Tensor = layer(x)
    elif torch.is_grad_enabled() and x.device.type == "cpu" and _makes_plane(layer):
        y = project_back(as_tokens(x), layer.weight.flatten(1), layer.bias, x)
    elif torch.is_grad_enabled() and x.device.type == "cpu" and runs_plainly() and _is_line(layer):
        y = _convolve_column(layer, x)
    elif compiled_for_cpu(x) and isinstance(layer.padding, tuple):
        transposed = isinstance(layer, nn.ConvTranspose2d)
        y = _operator(x, layer.weight, layer.bias, *_sizes(layer), layer.groups, transposed)
    else:
        y = layer(x)
    return y


def is_untouched(layer: nn.Module) -> TypeGuard[Convolution]:
    """Say whether the weights of a convolution tell all: it is torch's own, pads by zeros, and nothing hooks to it."""
    return isinstance(layer, Convolution) and is_plain(layer) and not any(layer.output_padding)


def is_same(layer: nn.Module) -> TypeGuard[Convolution]:
    """Say whether a convolution is untouched, and its result has the sizes of what it is given."""
    return is_plain(layer) and type(layer) is not nn.Linear and keeps_size(layer)


def _makes_plane(layer: Convolution) -> bool:
    single = layer.kernel_size == layer.stride == (1, 1) and layer.out_channels == layer.groups == 1
    plain = isinstance(layer, nn.Conv2d) and layer.padding == (0, 0)
    return single and plain and not torch.compiler.is_exporting()


def _is_line(layer: Convolution) -> bool:
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    return isinstance(layer, nn.Conv1d) and depthwise and isinstance(layer.padding, tuple)


def _convolve_column(layer: Convolution, x_ncl: Tensor) -> Tensor:
    (stride,), (padding,), (dilation,) = _sizes(layer)
    x_ncl1, weight_c1k1 = x_ncl.unsqueeze(3), layer.weight.unsqueeze(3)
    sizes = ((stride, 1), (padding, 0), (dilation, 1))
    return torch.conv2d(x_ncl1, weight_c1k1, layer.bias, *sizes, layer.groups).squeeze(3)


def _sizes(layer: Convolution) -> tuple[list[int], list[int], list[int]]:
    return list(layer.stride), [int(p) for p in layer.padding], list(layer.dilation)


def convolve_through(layers: nn.Sequential, x_nchw: Tensor) -> Tensor:
    """Return ``layers(x)``, its convolutions by :func:`convolve`, its ReLUs by :func:`rectify`."""
    if not compiled_for_cpu(x_nchw):
        y: Tensor = layers(x_nchw)
        return y
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            x_nchw = convolve(layer, x_nchw)
        elif type(layer) is nn.ReLU and not is_hooked(layer):
            x_nchw = rectify(x_nchw)
        else:
            x_nchw = layer(x_nchw)
    return x_nchw


def convolve_by(x: Tensor, weight: Tensor, bias_o: Tensor | None = None, *, stride: int = 1) -> Tensor:
    """Return the convolution of maps ``(N, C, H, W)`` or volumes by an odd kernel that with stride 1 keeps the size."""
    padding = [size // 2 for size in weight.shape[2:]]
    ones, strides = [1] * len(padding), [stride] * len(padding)
    if compiled_for_cpu(x):
        y: Tensor = _operator(x, weight, bias_o, strides, padding, ones, 1, False)
        return y
    plain = torch.conv2d if len(padding) == 2 else torch.conv3d
    return plain(x, weight, bias_o, strides, padding)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    transposed: bool,
) -> Tensor:
    return torch.convolution(x, weight, bias, stride, padding, dilation, transposed, [0] * len(stride), groups)


def _gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    transposed: bool,
    wanted: list[bool],
) -> list[Tensor]:
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    sizes = ([outputs], stride, padding, dilation, transposed, [0] * len(stride), groups)
    grads = torch.ops.aten.convolution_backward(grad, x, weight, *sizes, wanted)
    return [one for one, has in zip(grads, wanted, strict=True) if has]


# fake tensors tell the shapes by the same calls
_operator = torch.library.custom_op("attnzoo_vision::convolve", _convolution, mutates_args=())
_operator.register_fake(_convolution)
_backward_operator = torch.library.custom_op("attnzoo_vision::convolve_backward", _gradients, mutates_args=())
_backward_operator.register_fake(_gradients)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, *ctx.sizes = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:3])
    grads = iter(_backward_operator(grad, *ctx.saved_tensors, *ctx.sizes, wanted))
    return *(next(grads) if has else None for has in wanted), None, None, None, None, None


_operator.register_autograd(_backward, setup_context=_save)
