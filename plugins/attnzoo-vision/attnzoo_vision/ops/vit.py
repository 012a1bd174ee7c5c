"""The parts of a vision transformer's layer."""

from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation, get_activation
from attnzoo_vision.ops.checks import check_at_least, check_divides, check_probability
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, project_heads


class SelfAttention(nn.Module):
    """Multi-head self-attention of ``(N, L, C)`` with one projection for queries, keys and values."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        qkv_bias: bool,
        scale: float | None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.scale = (embed_dim // num_heads) ** -0.5 if scale is None else scale
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.project = nn.Linear(embed_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_nlc: Tensor) -> Tensor:
        """Return the attended tokens."""
        query_ngld, key_ngld, value_ngld = project_heads(x_nlc, self.qkv, self.num_heads)
        dropout = self.attention_dropout if self.training else 0.0
        y_ngld = attend_heads(query_ngld, key_ngld, value_ngld, scale=self.scale, dropout=dropout)
        y_nlc: Tensor = self.dropout(self.project(merge_heads(y_ngld)))
        return y_nlc

    def weights(self, x_nlc: Tensor) -> Tensor:
        """Return the weights of all tokens for each, ``(N, heads, L, L)``."""
        query_ngld, key_ngld, _ = project_heads(x_nlc, self.qkv, self.num_heads)
        return attention_map(query_ngld, key_ngld, scale=self.scale)


class MLP(nn.Module):
    """Two linear layers with an activation between, and dropout behind it and behind the second, of block ``name``."""

    def __init__(
        self, name: str, embed_dim: int, hidden: int, activation: Activation = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.activation = get_activation(name, activation)
        self.expand = nn.Linear(embed_dim, hidden)
        self.reduce = nn.Linear(hidden, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_nlc: Tensor) -> Tensor:
        """Return the transformed tokens."""
        y_nlc: Tensor = self.dropout(self.reduce(self.dropout(self.activation(self.expand(x_nlc)))))
        return y_nlc


def check_layer(name: str, embed_dim: int, num_heads: int, mlp_ratio: float, **probabilities: float) -> int:
    """Return the hidden width of the MLP. The ``probabilities`` are those of leaving something out.

    Raises:
        ValueError: An argument does not fit.
    """
    check_at_least(name, 1, embed_dim=embed_dim, num_heads=num_heads)
    check_divides(name, "num_heads", num_heads, "embed_dim", embed_dim)
    if int(embed_dim * mlp_ratio) < 1:
        message = f"{name}: mlp_ratio={mlp_ratio} leaves no hidden unit of embed_dim={embed_dim}; use a larger one"
        raise ValueError(message)
    check_probability(name, **probabilities)
    return int(embed_dim * mlp_ratio)


def init_linear(module: nn.Module) -> None:
    """Draw the weights of all linear layers from a truncated normal of deviation 0.02, with no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
