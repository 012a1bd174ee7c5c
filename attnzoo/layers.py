"""What a layer applies, for blocks that join its product with another instead of calling it; and where layers start."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Affine", "affine", "chain", "is_hooked", "is_plain", "join", "keeps_size", "reset_layers", "split"]

_TORCH_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


class Affine(NamedTuple):
    """The weight and the bias, if it has one, of a linear layer or convolution."""

    weight: Tensor
    bias: Tensor | None

    def filled(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias, zeros where there is none."""
        bias = self.weight.new_zeros(self.weight.shape[0]) if self.bias is None else self.bias
        return self.weight, bias


def is_plain(layer: nn.Module) -> bool:
    """Say whether a layer is torch's own, pads by zeros if at all, and nothing hooks to it.

    Its parameters and its sizes then tell all that it does.
    """
    if type(layer) not in _TORCH_LAYERS or "forward" in layer.__dict__ or is_hooked(layer):
        return False
    return bool(layer.__dict__.get("padding_mode", "zeros") == "zeros")  # a linear layer has none


def is_hooked(layer: nn.Module) -> bool:
    """Say whether anything hooks to a layer, so that it must be called itself."""
    backward = layer._backward_hooks or layer._backward_pre_hooks
    return bool(layer._forward_hooks or layer._forward_pre_hooks or backward)


def keeps_size(layer: Any) -> bool:
    """Say whether a convolution by an odd kernel, with padding by its half, has a result for each place of its input.

    Its stride and dilation are 1.
    """
    sizes, padding = layer.kernel_size, layer.padding
    ones = (1,) * len(sizes)
    if layer.transposed or layer.stride != ones or layer.dilation != ones:
        return False
    if padding == "same":
        return all(size % 2 for size in sizes)
    return sizes == ones if padding == "valid" else list(sizes) == [2 * width + 1 for width in padding]


def affine(layer: Any, *, same: bool = False) -> Affine:
    """Return the weight and bias that ``layer`` applies, in the shape of ``layer.weight``.

    Of torch's own layers these are the parameters. What stands in a layer's place (an adapter such as LoRA, a
    parametrisation, pruning, quantised weights), or has hooks, is called: its answers to unit vectors are the weight,
    that to zeros the bias, and gradients pass to whatever it is made of. Hooks see these vectors. A layer that is not
    affine, as an adapter with dropout in training, gives what it answered this time.

    Args:
        layer: An ``nn.Linear`` or a convolution without dilation and, if its kernel is larger than 1, of stride 1; or
            a module in the place of one, with its ``in_features`` or ``in_channels``, and its ``weight``.
        same: Whether the caller takes for granted that a convolution `keeps_size`.

    Raises:
        ValueError: A convolution pads by other than zeros, or its kernel skips places; or, for ``same``, it does not
            keep the sizes.
    """
    if is_plain(layer):
        if type(layer) is not nn.Linear and not (keeps_size(layer) if same else _is_dense(layer)):
            raise ValueError(_refusal(layer, same))
        return Affine(layer.weight, layer.bias)
    if not all(_is_dense(part) for part in layer.modules()):
        raise ValueError(_refusal(layer, same))
    weight = layer.weight() if callable(layer.weight) else layer.weight  # quantised layers have a method
    sizes = weight.shape[2:]
    unit = _units(layer, weight, beyond=int(same))  # a place more shows strides and padding
    answer = layer(unit)
    if same and (answer.shape[2:] != unit.shape[2:] or not all(size % 2 for size in sizes)):
        raise ValueError(_refusal(layer, same))
    for axis, size in enumerate(sizes, start=2):
        answer = answer.narrow(axis, (answer.shape[axis] - size) // 2, size)
    answer, bias = answer[:-1] - answer[-1], answer[(-1, slice(None), *(0 for _ in sizes))]
    return Affine(answer.transpose(0, 1).flip(tuple(range(2, answer.dim()))), bias)


def join(*parts: Affine) -> Affine:
    """Return the weight and bias of all the outputs, one part after the other; a bias if any part has one."""
    weight, biases = torch.cat([p.weight for p in parts]), [p.bias for p in parts]
    if all(bias is None for bias in biases):
        return Affine(weight, biases[0])
    return Affine(weight, torch.cat([p.filled()[1] for p in parts]))


def chain(first: Affine, *later: Affine) -> Affine:
    """Return the weight and bias of linear layers called one after the other; a bias if any of them has one."""
    weight, bias = first
    for part in later:
        if bias is not None:
            # a matrix times a vector rounds by the alignment of the matrix, a sum does not
            through = (part.weight * bias).sum(dim=1)
            bias = through if part.bias is None else through + part.bias
        else:
            bias = part.bias
        weight = part.weight @ weight
    return Affine(weight, bias)


def split(joined: Affine, sizes: Sequence[int]) -> list[Affine]:
    """Return the parts with so many outputs each, the inverse of `join`.

    Their gradients make up one of the whole, where slices would each write a whole weight as theirs.
    """
    biases = [joined.bias] * len(sizes) if joined.bias is None else joined.bias.split(list(sizes))
    return [Affine(*part) for part in zip(joined.weight.split(list(sizes)), biases, strict=True)]


def _is_dense(layer: nn.Module) -> bool:
    """Say whether a layer, if it is a convolution, lays its kernel over neighbours at every place, beside zeros."""
    options = layer.__dict__
    if "padding_mode" not in options:
        return True
    if options["padding_mode"] != "zeros" and any(map(bool, options["padding"])):
        return False
    ones = (1,) * len(options["kernel_size"])
    return bool(options["stride"] == ones == options["dilation"] or options["kernel_size"] == ones)


def _refusal(layer: nn.Module, same: bool) -> str:
    wanted = "stride and dilation 1 and padding, if any, by zeros"
    if same:
        wanted = "an odd kernel, stride and dilation 1 and padding by zeros as wide as half the kernel"
    return f"affine: found {layer!r}, expected a convolution with {wanted}; put such a layer in its place"


def _units(layer: Any, weight: Any, beyond: int) -> Tensor:
    """Return a sample for each input of a group, 1 there and 0 else, and one of zeros.

    They are as wide on each side of the unit as the kernel reaches, and so many places ``beyond``.
    """
    inputs = getattr(layer, "in_features", None) or layer.in_channels
    centre = tuple(size - 1 + beyond for size in weight.shape[2:])
    # all groups of a convolution are asked at once; the shape of packed linear weights does not tell their inputs
    width = weight.shape[1] if centre else inputs
    sizes = (2 * place + 1 for place in centre)
    unit = torch.zeros(width + 1, inputs, *sizes, device=weight.device, dtype=_dtype(weight))
    for channel in range(width):
        unit[(channel, slice(channel, None, width), *centre)] = 1.0
    return unit


def _dtype(weight: Tensor) -> torch.dtype:
    return weight.dtype if weight.is_floating_point() and not weight.is_quantized else torch.get_default_dtype()


def reset_layers(block: nn.Module) -> None:
    """Give every layer and every block within ``block`` its own start, by its ``reset_parameters``.

    Tensors of ``block`` itself, and of a ``ParameterList`` within, are the caller's to set.
    """
    for part in block.children():
        reset = getattr(part, "reset_parameters", None)
        if reset is None:
            reset_layers(part)
            reset = getattr(part, "_reset_parameters", None)  # nn.MultiheadAttention and nn.Transformer have this one
        if reset is not None:
            reset()
