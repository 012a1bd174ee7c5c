"""Attention inside windows of Swin, with a table of relative positions."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_divides, check_input, check_probability
from attnzoo_vision.ops.compiling import settled
from attnzoo_vision.ops.heads import attend_heads, attention_map, merge_heads, project_heads
from attnzoo_vision.ops.relative import window_bias
from attnzoo_vision.ops.sizes import pair


class SwinWindowAttention(nn.Module):
    """Multi-head attention among the tokens of each window, with a learned logit for each displacement and head.

    ``y_i = W_out sum_j softmax_j(scale q_i.k_j + table[place_i - place_j] + bias_ij) v_j + b_out``

    Args:
        embed_dim: Channels of the tokens.
        window_size: Rows and columns of a window; one number for both.
        num_heads: Heads.
        head_dim: Width of a head; ``embed_dim // num_heads`` if left out.
        bias: Give queries, keys and values a bias.
        scale: Factor of the products; ``head_dim ** -0.5`` if left out.
        attention_dropout: Probability of dropping an attention weight.
        dropout: Probability of dropping an element of the output.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``: N windows of ``L = rows * columns`` tokens, all windows of one sample together.
        Optional ``bias`` ``(V, L, L)``, a logit added to all heads of window v of each sample; V divides N.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.

    Source:
        Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021,
        arXiv:2103.14030, eq. 4. Authors' code: github.com/microsoft/Swin-Transformer @ f82860b,
        models/swin_transformer.py, class WindowAttention.
        Deviations: the index of the table is not stored, it is a view.
    """

    def __init__(
        self,
        embed_dim: int,
        window_size: int | list[int],
        *,
        num_heads: int = 4,
        head_dim: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        name = "SwinWindowAttention"
        check_at_least(name, 1, embed_dim=embed_dim, window_size=window_size, num_heads=num_heads, head_dim=head_dim)
        check_probability(name, attention_dropout=attention_dropout, dropout=dropout)
        if head_dim is None:
            check_divides(name, "num_heads", num_heads, "embed_dim", embed_dim)
        width = embed_dim // num_heads if head_dim is None else head_dim
        self.num_heads = num_heads
        self.window_size = pair(name, "window_size", window_size)
        self.scale = width**-0.5 if scale is None else scale
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(embed_dim, 3 * num_heads * width, bias=bias)
        rows, columns = self.window_size
        self.table = nn.Parameter(torch.empty((2 * rows - 1) * (2 * columns - 1), num_heads))
        self.projection = nn.Linear(num_heads * width, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the authors' model does."""
        for weight in (self.qkv.weight, self.projection.weight, self.table):
            nn.init.trunc_normal_(weight, std=0.02)
        for bias in (self.qkv.bias, self.projection.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(self, x_nlc: Tensor, bias_vll: Tensor | None = None) -> Tensor:
        """Return the attended tokens of each window."""
        check_input("SwinWindowAttention", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        query_ngld, key_ngld, value_ngld = project_heads(x_nlc, self.qkv, self.num_heads)
        y_ngld = attend_heads(
            query_ngld,
            key_ngld,
            value_ngld,
            scale=self.scale,
            bias=self._bias(x_nlc, bias_vll),
            dropout=self.attention_dropout if self.training else 0.0,
        )
        y_nlc: Tensor = self.dropout(self.projection(merge_heads(y_ngld)))
        return y_nlc

    def attention(self, x_nlc: Tensor, bias_vll: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``window``, the weight of every token (column) for every token (row) of its window and head."""
        check_input("SwinWindowAttention", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        query_ngld, key_ngld, _ = project_heads(x_nlc, self.qkv, self.num_heads)
        bias = self._bias(x_nlc, bias_vll)
        return {"window": attention_map(query_ngld, key_ngld, scale=self.scale, bias=bias)}

    def _bias(self, x_nlc: Tensor, bias_vll: Tensor | None) -> Tensor:
        rows, columns = self.window_size
        table_hwg = self.table.view(2 * rows - 1, 2 * columns - 1, -1)
        bias_gll = window_bias(table_hwg, rows, columns).to(x_nlc.dtype)
        if bias_vll is None:
            return bias_gll.unsqueeze(0)
        bias_vgll = settled(bias_gll + bias_vll.to(x_nlc.dtype).unsqueeze(1))  # made once, not once a sample
        return bias_vgll.repeat(x_nlc.shape[0] // bias_vll.shape[0], 1, 1, 1)
