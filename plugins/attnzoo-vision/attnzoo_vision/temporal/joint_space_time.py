"""Layer of TimeSformer with joint space-time attention: the plain layer of a vision transformer."""

from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation
from attnzoo_vision.ops.checks import check_input
from attnzoo_vision.ops.drop_path import drop_path
from attnzoo_vision.ops.vit import MLP, SelfAttention, check_layer, init_linear


class JointSpaceTime(nn.Module):
    """Attend over all tokens of all frames, then apply an MLP, each of its norm and added.

    ``u = x + attend(LN(x))``, ``y = u + mlp(LN(u))``

    Args:
        embed_dim: Channels of the tokens.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden units of the MLP as a multiple of ``embed_dim``.
        qkv_bias: Give the projections to queries, keys and values a bias.
        scale: Factor of the logits; None means one over the square root of the channels of a head.
        activation: Nonlinearity of the MLP.
        drop_path: Probability of leaving out a branch of a sample, while training.
        eps: Added to the variance in the norms.
        attention_dropout: Probability of dropping an attention weight, in training.
        dropout: Probability of dropping an element behind the attention's projection, behind the MLP's activation and
            behind the MLP, in training.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; any L from 1 on, of which any may be a class token. With the frames in the batch
        it is the form ``space_only``.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``mlp_ratio`` leaves no hidden unit, a probability
            is out of its range, or the activation is unknown.

    Source:
        Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021, arXiv:2102.05095,
        fig. 2. Authors' code: github.com/facebookresearch/TimeSformer @ a5ef29a, timesformer/models/vit.py, class Block
        with attention_type joint_space_time or space_only.
        Deviations: none.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        scale: float | None = None,
        activation: Activation = "gelu",
        drop_path: float = 0.0,
        eps: float = 1e-6,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        dropouts = {"attention_dropout": attention_dropout, "dropout": dropout}
        hidden = check_layer("JointSpaceTime", embed_dim, num_heads, mlp_ratio, drop_path=drop_path, **dropouts)
        self.drop_path = drop_path
        self.attention_norm = nn.LayerNorm(embed_dim, eps=eps)
        self.attend = SelfAttention(embed_dim, num_heads, qkv_bias=qkv_bias, scale=scale, **dropouts)
        self.mlp_norm = nn.LayerNorm(embed_dim, eps=eps)
        self.mlp = MLP("JointSpaceTime", embed_dim, hidden, activation, dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: truncated normal, no bias."""
        init_linear(self)
        for norm in (self.attention_norm, self.mlp_norm):
            norm.reset_parameters()

    def forward(self, x_nlc: Tensor) -> Tensor:
        """Return the tokens after the layer."""
        check_input("JointSpaceTime", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        branch_nlc = self.attend(self.attention_norm(x_nlc))
        x_nlc = x_nlc + drop_path(branch_nlc, self.drop_path, self.training)
        return x_nlc + drop_path(self.mlp(self.mlp_norm(x_nlc)), self.drop_path, self.training)

    def attention(self, x_nlc: Tensor) -> dict[str, Tensor]:
        """Return ``attention``, the weights of all tokens for each, ``(N, heads, L, L)``."""
        check_input("JointSpaceTime", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        return {"attention": self.attend.weights(self.attention_norm(x_nlc))}
