"""Graph attention, second version (GATv2): the score of a pair is a small network of both ends."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import masked_softmax, split_heads
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.graph import join_heads, output_bias
from attnzoo_sequence.ops.masks import check_pair_mask


class GraphAttentionV2(nn.Module):
    """Average the projected neighbours of each node, weighted by a small network of both ends.

    ``s = source x;  e_ij = score . leaky_relu(target x_i + s_j);  out_i = sum_j softmax_j(e_ij) s_j + bias``, for each
    head; heads are joined or averaged. Unlike in the first version every node may order its neighbours in its own way.

    Args:
        embed_dim: Width of the nodes.
        head_dim: Channels of a head.
        num_heads: Number of heads.
        average: Whether heads are averaged (an output layer) instead of joined.
        slope: Slope of the leaky ReLU below 0.
        bias: Whether the projections have biases and one is added to the result.

    Shape:
        ``(N, L, C)``, edges ``(N, L, L)`` with True at ``[i, j]`` where node i sees node j, to ``(N, L, num_heads
        head_dim)`` or ``(N, L, head_dim)``. A node without neighbours gives the bias; add self loops if it shall see
        itself.

    Raises:
        ValueError: a size is not positive.

    Source:
        Brody et al., "How Attentive are Graph Attention Networks?", ICLR 2022, arXiv:2105.14491, eq. 7.
        Code: github.com/pyg-team/pytorch_geometric @ 5c6461b, nn/conv/gatv2_conv.py.
        Deviations: no dropout inside; edges are a mask of all pairs, one head at a time, so memory is L^2 head_dim.
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
    ) -> None:
        super().__init__()
        check_positive("GraphAttentionV2", embed_dim=embed_dim, head_dim=head_dim, num_heads=num_heads)
        self.num_heads = num_heads
        self.average = average
        self.slope = slope
        self.source = nn.Linear(embed_dim, num_heads * head_dim, bias=bias)
        self.target = nn.Linear(embed_dim, num_heads * head_dim, bias=bias)
        self.score = nn.Parameter(torch.empty(num_heads, head_dim))
        self.bias = output_bias(num_heads, head_dim, average) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from Glorot's uniform distribution, biases zero."""
        for weight in (self.source.weight, self.target.weight, self.score):
            nn.init.xavier_uniform_(weight)
        for bias in (self.source.bias, self.target.bias, self.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def _weights(self, x_nlc: Tensor, source_nhmd: Tensor, edge_mask_nlm: Tensor) -> Tensor:
        check_pair_mask(edge_mask_nlm, x_nlc, x_nlc)
        target_nhld = split_heads(self.target(x_nlc), self.num_heads)
        scores = []
        for head in range(self.num_heads):
            pair_nlmd = target_nhld[:, head, :, None] + source_nhmd[:, head, None]
            scores.append(F.leaky_relu(pair_nlmd, self.slope) @ self.score[head])
        return masked_softmax(torch.stack(scores, dim=1), edge_mask_nlm[:, None])

    def forward(self, x_nlc: Tensor, edge_mask_nlm: Tensor) -> Tensor:
        """Return the averages over the neighbours, ``(n, l, h d)`` or ``(n, l, d)``."""
        source_nhmd = split_heads(self.source(x_nlc), self.num_heads)
        out_nhld = self._weights(x_nlc, source_nhmd, edge_mask_nlm).to(source_nhmd.dtype) @ source_nhmd
        return join_heads(out_nhld, self.average, self.bias)

    def attention(self, x_nlc: Tensor, edge_mask_nlm: Tensor) -> dict[str, Tensor]:
        """Return the weights, ``(n, h, l, l)``."""
        return {"attention": self._weights(x_nlc, split_heads(self.source(x_nlc), self.num_heads), edge_mask_nlm)}
