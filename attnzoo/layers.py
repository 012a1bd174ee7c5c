"""What a layer applies, for blocks that join its product with another instead of calling it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Affine", "affine", "is_hooked", "is_plain", "join", "split"]

_TORCH_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


class Affine(NamedTuple):
    """The weight and the bias of a linear layer or convolution; the bias, as torch types its own, may be None."""

    weight: Tensor
    bias: Tensor


def is_plain(layer: nn.Module) -> bool:
    """Say whether a layer is torch's own and nothing hooks to it, so that its parameters tell all that it does."""
    return type(layer) in _TORCH_LAYERS and "forward" not in layer.__dict__ and not is_hooked(layer)


def is_hooked(layer: nn.Module) -> bool:
    """Say whether anything hooks to a layer, so that it must be called itself."""
    backward = layer._backward_hooks or layer._backward_pre_hooks
    return bool(layer._forward_hooks or layer._forward_pre_hooks or backward)


def affine(layer: Any) -> Affine:
    """Return the weight and bias that ``layer`` applies, in the shape of ``layer.weight``.

    Of torch's own layers these are the parameters. What stands in a layer's place (an adapter such as LoRA, a
    parametrisation, pruning, quantised weights), or has hooks, is called: its answers to unit vectors are the weight,
    that to zeros the bias, and gradients pass to whatever it is made of. Hooks see these vectors. A layer that is not
    affine, as an adapter with dropout in training, gives what it answered this time.

    Args:
        layer: An ``nn.Linear`` or a convolution without dilation and, if its kernel is larger than 1, of stride 1; or
            a module in the place of one, with its ``in_features`` or ``in_channels``, and its ``weight``.
    """
    if is_plain(layer):
        return Affine(layer.weight, layer.bias)
    weight = layer.weight() if callable(layer.weight) else layer.weight  # quantised layers have a method
    inputs = getattr(layer, "in_features", None) or layer.in_channels
    sizes = weight.shape[2:]
    # all groups of a convolution are asked at once; the shape of packed linear weights does not tell their inputs
    width = weight.shape[1] if sizes else inputs
    # as wide on each side of the unit as the kernel reaches, and a last sample without one
    unit = torch.zeros(width + 1, inputs, *(2 * size - 1 for size in sizes), device=weight.device, dtype=_dtype(weight))
    centre = tuple(size - 1 for size in sizes)
    for channel in range(width):
        unit[(channel, slice(channel, None, width), *centre)] = 1.0
    answer = layer(unit)
    for axis, size in enumerate(sizes, start=2):
        answer = answer.narrow(axis, (answer.shape[axis] - size) // 2, size)
    answer, bias = answer[:-1] - answer[-1], answer[(-1, slice(None), *(0 for _ in sizes))]
    return Affine(answer.transpose(0, 1).flip(tuple(range(2, answer.dim()))), bias)


def join(*parts: Affine) -> Affine:
    """Return the weight and bias of all the outputs, one part after the other; a bias if any part has one."""
    weight, biases = torch.cat([p.weight for p in parts]), [p.bias for p in parts]
    if all(bias is None for bias in biases):
        return Affine(weight, biases[0])
    filled = [p.weight.new_zeros(p.weight.shape[0]) if p.bias is None else p.bias for p in parts]
    return Affine(weight, torch.cat(filled))


def split(joined: Affine, sizes: Sequence[int]) -> list[Affine]:
    """Return the parts with so many outputs each, the inverse of `join`.

    Their gradients make up one of the whole, where slices would each write a whole weight as theirs.
    """
    biases = [joined.bias] * len(sizes) if joined.bias is None else joined.bias.split(list(sizes))
    return [Affine(*part) for part in zip(joined.weight.split(list(sizes)), biases, strict=True)]


def _dtype(weight: Tensor) -> torch.dtype:
    return weight.dtype if weight.is_floating_point() and not weight.is_quantized else torch.get_default_dtype()
