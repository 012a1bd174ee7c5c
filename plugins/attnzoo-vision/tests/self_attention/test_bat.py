"""Bilinear attentional transforms: the formula written out with the matrices at full size."""

import pytest
import torch
from torch.nn import functional as F

from attnzoo_vision.self_attention.bat import BAT


def test_the_small_matrices_act_as_their_kronecker_products_with_the_identity():
    torch.manual_seed(0)
    block = BAT(8, hidden_channels=4, block_size=2, groups=2).double().eval()
    x_nchw = torch.randn(2, 8, 6, 4, dtype=torch.float64)
    hidden_nrhw = torch.relu(block.reduce(x_nchw))
    narrow_nghw = torch.relu(block.squeeze(hidden_nrhw))
    row_ngs = F.adaptive_max_pool2d(narrow_nghw, (2, 1)).squeeze(3)
    column_ngs = F.adaptive_max_pool2d(narrow_nghw, (1, 2)).squeeze(2)
    p_ngss = torch.sigmoid(block.rows(row_ngs.flatten(1))).view(2, 2, 2, 2)
    q_ngss = torch.sigmoid(block.columns(column_ngs.flatten(1))).view(2, 2, 2, 2)
    mixed_nrhw = torch.empty_like(hidden_nrhw)
    for n in range(2):
        for r in range(4):
            p, q = p_ngss[n, r // 2], q_ngss[n, r // 2]
            p, q = p / p.sum(1, keepdim=True), q / q.sum(0, keepdim=True)
            eye = torch.eye(3, dtype=p.dtype), torch.eye(2, dtype=p.dtype)
            mixed_nrhw[n, r] = torch.kron(p, eye[0]) @ hidden_nrhw[n, r] @ torch.kron(q, eye[1])
    expected = x_nchw + torch.relu(block.expand(torch.relu(block.mix(mixed_nrhw))))
    torch.testing.assert_close(block(x_nchw), expected)


def test_a_map_that_is_no_grid_of_blocks_is_refused():
    message = "^BAT: input is 6 x 7, expected multiples of block_size=7; pad or resize it$"
    with pytest.raises(ValueError, match=message):
        BAT(16)(torch.randn(1, 16, 6, 7))
