"""The layers that the two second-order poolings of GSoP share."""

import math

from torch import nn

from attnzoo_vision.ops.grouped_linear import GroupedLinear


def init_by_outputs(reduce: nn.Conv2d, row_filter: GroupedLinear, expand: nn.Linear) -> None:
    """Draw the weights as the authors' network does: normal, by the number of outputs."""
    nn.init.kaiming_normal_(reduce.weight, mode="fan_out", nonlinearity="relu")
    nn.init.kaiming_normal_(expand.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(row_filter.weight, std=math.sqrt(2 / row_filter.weight.numel()))
