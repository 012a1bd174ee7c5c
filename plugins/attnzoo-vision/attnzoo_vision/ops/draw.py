"""Weights drawn anew, all layers of a block by one rule, as the authors' networks draw theirs."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnzoo_vision.ops.grouped_linear import GroupedLinear

Draw = Callable[[Tensor], object]

by_inputs: Draw = partial(nn.init.kaiming_normal_, nonlinearity="relu")
by_outputs: Draw = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


def draw_anew(block: nn.Module, *, conv: Draw, linear: Draw | None, zero_biases: bool) -> None:
    """Draw the weights of convolutions by ``conv``, of linear layers by ``linear``, if given; all else as torch does.

    Biases start at zero if ``zero_biases``.
    """
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | GroupedLinear):
            draw = conv if isinstance(layer, nn.Conv2d) else linear
            if draw is None or not zero_biases:
                layer.reset_parameters()
            if draw is not None:
                draw(layer.weight)
            if zero_biases and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, _BatchNorm | nn.GroupNorm):
            layer.reset_parameters()


def draw_as_caffe(block: nn.Module) -> None:
    """Draw as the Caffe models do: convolutions normal by fan-in (msra), linear layers with std 0.01, biases 0."""
    draw_anew(block, conv=by_inputs, linear=partial(nn.init.normal_, std=0.01), zero_biases=True)
