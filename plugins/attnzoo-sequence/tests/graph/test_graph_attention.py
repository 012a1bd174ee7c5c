import pytest
import torch
from torch import nn

from attnzoo_sequence.graph.graph_attention import GraphAttention
from attnzoo_sequence.graph.graph_attention_v2 import GraphAttentionV2


@pytest.fixture
def edges() -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.rand(2, 6, 6) < 0.4) | torch.eye(6, dtype=torch.bool)


def by_edges(block: nn.Module, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Return the joined heads, written as a sum over the edges of each node."""
    first = isinstance(block, GraphAttention)
    source = (block.project if first else block.source)(x).unflatten(-1, (2, 3))
    out = torch.zeros_like(source)
    for n, i in ((n, i) for n in range(2) for i in range(6)):
        neighbours = edges[n, i].nonzero().flatten()
        near = source[n, neighbours]
        if first:
            score = (source[n, i] * block.target).sum(-1) + (near * block.source).sum(-1) + block.score_bias
            score = nn.functional.leaky_relu(score, 0.2)
        else:
            target = block.target(x[n, i]).unflatten(-1, (2, 3))
            score = (nn.functional.leaky_relu(target + near, 0.2) * block.score).sum(-1)
        out[n, i] = (score.softmax(dim=0)[..., None] * near).sum(dim=0)
    return out.flatten(2) + block.bias


def test_both_versions_equal_the_sum_over_edges(edges: torch.Tensor) -> None:
    first = GraphAttention(5, head_dim=3, num_heads=2, score_bias=True)
    for block in (first, GraphAttentionV2(5, head_dim=3, num_heads=2)):
        block.double()
        for parameter in block.parameters():
            nn.init.normal_(parameter)
        x = torch.randn(2, 6, 5, dtype=torch.float64)
        torch.testing.assert_close(block(x, edges), by_edges(block, x, edges))


def test_a_node_without_neighbours_gives_the_bias(edges: torch.Tensor) -> None:
    block = GraphAttention(5, head_dim=3, num_heads=2, average=True)
    edges[0, 2] = False
    torch.testing.assert_close(block(torch.randn(2, 6, 5), edges)[0, 2], block.bias.detach())
