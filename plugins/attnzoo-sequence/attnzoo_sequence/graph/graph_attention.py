"""Graph attention (GAT): nodes average their neighbours, weighted by a score of each pair."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import masked_softmax, split_heads
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.graph import join_heads, output_bias
from attnzoo_sequence.ops.masks import check_pair_mask


class GraphAttention(nn.Module):
    """Average the projected neighbours of each node, weighted by a sum of one score of each end.

    ``h = W x;  e_ij = leaky_relu(target . h_i + source . h_j [+ c]);  out_i = sum_j softmax_j(e_ij) h_j + bias``, for
    each head; heads are joined or averaged. The order of the neighbours by weight is the same for every node; the
    second version, ``graph-attention-v2``, is free of that.

    Args:
        embed_dim: Width of the nodes.
        head_dim: Channels of a head.
        num_heads: Number of heads.
        average: Whether heads are averaged (an output layer) instead of joined.
        slope: Slope of the leaky ReLU below 0.
        bias: Whether a bias is added to the result.
        score_bias: Whether each head has a constant ``c`` in its scores, as the authors' code has.

    Shape:
        ``(N, L, C)``, edges ``(N, L, L)`` with True at ``[i, j]`` where node i sees node j, to ``(N, L, num_heads
        head_dim)`` or ``(N, L, head_dim)``. A node without neighbours gives the bias; add self loops if it shall see
        itself.

    Raises:
        ValueError: a size is not positive.

    Source:
        Velickovic et al., "Graph Attention Networks", ICLR 2018, arXiv:1710.10903, eq. 1-6.
        Authors' code: github.com/PetarV-/GAT @ 5af87e7, utils/layers.py.
        Deviations: no dropout and no activation inside; one constant for their two biases of the score, which are only
        added.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        head_dim: int = 8,
        num_heads: int = 8,
        average: bool = False,
        slope: float = 0.2,
        bias: bool = True,
        score_bias: bool = False,
    ) -> None:
        super().__init__()
        check_positive("GraphAttention", embed_dim=embed_dim, head_dim=head_dim, num_heads=num_heads)
        self.num_heads = num_heads
        self.average = average
        self.slope = slope
        self.project = nn.Linear(embed_dim, num_heads * head_dim, bias=False)
        self.source = nn.Parameter(torch.empty(num_heads, head_dim))
        self.target = nn.Parameter(torch.empty(num_heads, head_dim))
        self.bias = output_bias(num_heads, head_dim, average) if bias else None
        self.score_bias = nn.Parameter(torch.zeros(num_heads)) if score_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from Glorot's uniform distribution, biases zero."""
        for weight in (self.project.weight, self.source, self.target):
            nn.init.xavier_uniform_(weight)
        for bias in (self.bias, self.score_bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def _scores(self, node_nhld: Tensor) -> Tensor:
        source_nhm, target_nhl = ((node_nhld @ a[:, :, None]).squeeze(-1) for a in (self.source, self.target))
        score_nhlm = target_nhl[..., :, None] + source_nhm[..., None, :]
        if self.score_bias is not None:
            score_nhlm = score_nhlm + self.score_bias[:, None, None]
        return F.leaky_relu(score_nhlm, self.slope, inplace=self.slope > 0)

    def forward(self, x_nlc: Tensor, edge_mask_nlm: Tensor) -> Tensor:
        """Return the averages over the neighbours, ``(n, l, h d)`` or ``(n, l, d)``."""
        check_pair_mask(edge_mask_nlm, x_nlc, x_nlc)
        node_nhld = split_heads(self.project(x_nlc), self.num_heads)
        hidden_n1lm = ~edge_mask_nlm[:, None]
        score_nhlm = self._scores(node_nhld)
        weight_nhlm = score_nhlm.masked_fill(hidden_n1lm, torch.finfo(score_nhlm.dtype).min).softmax(dim=-1)
        out_nhld = (weight_nhlm.to(node_nhld.dtype) @ node_nhld).masked_fill(hidden_n1lm.all(dim=-1)[..., None], 0.0)
        return join_heads(out_nhld, self.average, self.bias)

    def attention(self, x_nlc: Tensor, edge_mask_nlm: Tensor) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, l)``."""
        check_pair_mask(edge_mask_nlm, x_nlc, x_nlc)
        score_nhlm = self._scores(split_heads(self.project(x_nlc), self.num_heads))
        return {"attention": masked_softmax(score_nhlm, edge_mask_nlm[:, None])}
