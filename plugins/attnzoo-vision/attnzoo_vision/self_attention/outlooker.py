"""Outlooker layer of VOLO: outlook attention and an MLP, both residual."""

from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.drop_path import drop_path
from attnzoo_vision.ops.vit import init_linear
from attnzoo_vision.self_attention.outlook_attention import OutlookAttention, check_windows


class Outlooker(nn.Module):
    """Attend to neighbourhoods, then transform each token.

    ``z = x + outlook(norm1(x))``, ``y = z + W2 gelu(W1 norm2(z))``

    Args:
        embed_dim: Channels of input and output.
        num_heads: Heads.
        kernel_size: Rows and columns of a window.
        padding: Zero rows and columns around the map; ``kernel_size // 2`` if left out.
        stride: Step between windows.
        mlp_ratio: Width of the MLP over ``embed_dim``, rounded down; where that gives 0, ``embed_dim``, as theirs.
        bias: Give the values a bias.
        scale: Factor of the logits; ``(embed_dim // num_heads) ** -0.5`` if left out.
        attention_dropout: Probability of dropping an attention weight.
        drop_path: Probability of dropping a whole residual branch of a sample.
        eps: Constant in the layer norms.
        activation: What follows the first layer of the MLP, where the formula says gelu.

    Shape:
        ``(N, H, W, C)`` to ``(N, H, W, C)``; any H and W from 1 on.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, a size is too small, ``padding`` does not fit, or a
            probability is out of its range.

    Source:
        Yuan et al., "VOLO: Vision Outlooker for Visual Recognition", TPAMI 2022, arXiv:2106.13112, eq. 1-2.
        Authors' code: github.com/sail-sg/volo @ cf35775, models/volo.py, class Outlooker.
        Deviations: none.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 6,
        kernel_size: int = 3,
        padding: int | None = None,
        stride: int = 2,
        mlp_ratio: float = 3.0,
        bias: bool = False,
        scale: float | None = None,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-5,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        name = "Outlooker"
        check_at_least(name, 1, embed_dim=embed_dim, num_heads=num_heads, kernel_size=kernel_size, stride=stride)
        check_at_least(name, 0, mlp_ratio=mlp_ratio)
        check_windows(name, kernel_size, padding, stride)
        check_probability(name, attention_dropout=attention_dropout, drop_path=drop_path)
        check_divides(name, "num_heads", num_heads, "embed_dim", embed_dim)
        self.embed_dim, self.drop_path, self.activation = embed_dim, drop_path, get_activation(name, activation)
        self.norm1 = nn.LayerNorm(embed_dim, eps=eps)
        self.outlook = OutlookAttention(
            embed_dim,
            num_heads=num_heads,
            kernel_size=kernel_size,
            padding=padding,
            stride=stride,
            bias=bias,
            scale=scale,
            attention_dropout=attention_dropout,
        )
        self.norm2 = nn.LayerNorm(embed_dim, eps=eps)
        hidden = int(embed_dim * mlp_ratio) or embed_dim
        self.expand = nn.Linear(embed_dim, hidden)
        self.contract = nn.Linear(hidden, embed_dim)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as the authors' model does."""
        init_linear(self.expand)
        init_linear(self.contract)

    def forward(self, x_nhwc: Tensor) -> Tensor:
        """Return the tokens after both residual branches."""
        check_input("Outlooker", x_nhwc, self.embed_dim, "NHWC", argument="embed_dim")
        y_nhwc = x_nhwc + drop_path(self.outlook(self.norm1(x_nhwc)), self.drop_path, self.training)
        hidden_nhwr = self.activation(self.expand(self.norm2(y_nhwc)))
        return y_nhwc + drop_path(self.contract(hidden_nhwr), self.drop_path, self.training)

    def attention(self, x_nhwc: Tensor) -> dict[str, Tensor]:
        """Return ``window``: for each head and window, the weight of every position j for every position i."""
        check_input("Outlooker", x_nhwc, self.embed_dim, "NHWC", argument="embed_dim")
        return self.outlook.attention(self.norm1(x_nhwc))
