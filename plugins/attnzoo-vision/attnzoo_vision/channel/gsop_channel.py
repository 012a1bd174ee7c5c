"""Global Second-order Pooling along channels."""

from torch import Tensor, nn

from attnzoo.layers import affine, reset_layers
from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.gram import gram
from attnzoo_vision.ops.grouped_linear import GroupedLinear
from attnzoo_vision.ops.rectify import rectify
from attnzoo_vision.ops.second_order import init_by_outputs
from attnzoo_vision.ops.tokens import as_tokens, project_back


class GSoPChannel(nn.Module):
    """Scale each channel by a weight computed from the covariances between channels.

    ``t = relu(BN(W1 relu(x) + b1))``, ``K = cov_hw(t)``, ``y = x * sigmoid(W3 act(W2_i BN(K)_i + b2_i)_i + b3)``, where
    each row i of the covariance matrix has a filter of its own

    Args:
        channels: Channels of the input.
        hidden_channels: Channels that the covariance is taken of.
        stride: Step at which pixels are taken for it; the authors take 2 in the first stage of a ResNet.
        activation: What follows the filters of the rows: nothing in the authors' code; ``leaky_relu`` is said to be
            the paper's.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: A number is less than 1, or an activation is not known.

    Source:
        Gao et al., "Global Second-order Pooling Convolutional Networks", CVPR 2019, arXiv:1811.12006, section 3.1.
        Authors' code: github.com/ZilinGao/Global-Second-order-Pooling-Convolutional-Networks @ 662a699,
        torchvision/models/resnet.py, ``Bottleneck.chan_att``.
        Deviations: the features are centred instead of multiplied by a matrix of pixels by pixels; a training batch of
        one value a channel, which theirs refuses, is normalised with the running statistics.
    """

    def __init__(
        self, channels: int, *, hidden_channels: int = 128, stride: int = 1, activation: Activation = "identity"
    ) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("GSoPChannel", 1, channels=channels, hidden_channels=hidden_channels, stride=stride)
        self.activation = get_activation("GSoPChannel", activation)
        self.reduce = nn.Conv2d(channels, hidden_channels, 1, stride)
        self.norm = BatchNorm2d(hidden_channels)
        self.row_norm = BatchNorm1d(hidden_channels)
        self.row_filter = GroupedLinear(hidden_channels**2, 4 * hidden_channels, groups=hidden_channels)
        self.expand = nn.Linear(4 * hidden_channels, channels)
        init_by_outputs(self.reduce, self.row_filter, self.expand)

    def reset_parameters(self) -> None:
        """Draw the weights as the authors' network does: normal, by the number of outputs; all else as PyTorch's."""
        reset_layers(self)
        init_by_outputs(self.reduce, self.row_filter, self.expand)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return ``x_nchw``, each channel scaled by its weight in (0, 1)."""
        return x_nchw * self._weight(x_nchw)

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return ``channel``, the weights that :meth:`forward` multiplies with, ``(N, C, 1, 1)``."""
        return {"channel": self._weight(x_nchw)}

    def _weight(self, x_nchw: Tensor) -> Tensor:
        check_input("GSoPChannel", x_nchw, self.channels)
        stride = self.reduce.stride[0]
        taken_nchw = rectify(x_nchw[:, :, ::stride, ::stride])
        weight_dc11, bias_d = affine(self.reduce)
        reduced_ndhw = project_back(as_tokens(taken_nchw), weight_dc11.flatten(1), bias_d, taken_nchw)
        feature_ndm = rectify(self.norm(reduced_ndhw)).flatten(2)
        feature_ndm = feature_ndm - feature_ndm.mean(dim=2, keepdim=True)
        covariance_ndd = (gram(feature_ndm) / feature_ndm.shape[2]).to(feature_ndm.dtype)
        row_nr = self.activation(self.row_filter(self.row_norm(covariance_ndd).flatten(1)))
        weight_nc: Tensor = self.expand(row_nr).sigmoid()
        return weight_nc[:, :, None, None]
