from functools import partial

import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.self_attention.bot_block import BotBlock


def normed(norm, x):
    """Apply a batch norm, whose running statistics stay as they are."""
    mean, var = (None, None) if norm.training else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, mean, var, norm.weight, norm.bias, norm.training, eps=norm.eps)


def attended(mhsa, x, position):
    """Attend from every position to every other; ``R`` is a row of each table for every pair of them."""
    n, _, h, w = x.shape
    q, k, v = torch.einsum("oc,nchw->nohw", mhsa.qkv.weight, x).flatten(2).chunk(3, dim=1)
    q, k, v = (t.view(n, mhsa.num_heads, -1, h * w) for t in (q, k, v))
    row, column = torch.arange(h * w) // w, torch.arange(h * w) % w
    if position == "relative":
        down, right = row[None] - row[:, None], column[None] - column[:, None]
        place_ijd = mhsa.height[down + mhsa.feature_size[0] - 1] + mhsa.width[right + mhsa.feature_size[1] - 1]
    else:
        place_ijd = (mhsa.height[row] + mhsa.width[column]).expand(h * w, -1, -1)
    logits = torch.einsum("ngdi,ngdj->ngij", q, k) + torch.einsum("ngdi,ijd->ngij", q, place_ijd)
    weights = torch.softmax(q.shape[2] ** -0.5 * logits, dim=3)
    return torch.einsum("ngij,ngdj->ngdi", weights, v).reshape(n, -1, h, w)


def plain(block, x, stride=1, position="relative"):
    hidden = torch.relu(normed(block.reduce.norm, F.conv2d(x, block.reduce.conv.weight)))
    y = attended(block.mhsa, hidden, position)
    if stride == 2:
        y = F.avg_pool2d(y, 2)
    y = torch.relu(normed(block.norm, y))
    y = normed(block.expand.norm, F.conv2d(y, block.expand.conv.weight))
    if block.shortcut is not None:
        weight = block.shortcut.conv.weight
        x = torch.relu(normed(block.shortcut.norm, F.conv2d(x, weight, None, stride, weight.shape[2] // 2)))
    return torch.relu(y + x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"position": "absolute"}, {"position": "absolute", "stride": 2}], ids=str
)
def test_it_is_the_formula(compare_stirred, options, training):
    block = BotBlock(8, [4, 7], out_channels=8 + options.get("stride", 1) - 1, num_heads=2, head_dim=3, **options)
    compare_stirred(block.train(training), partial(plain, **options), torch.randn(2, 8, 4, 6))


def test_it_starts_as_its_rectified_shortcut():
    block = BotBlock(16, 4, num_heads=2, head_dim=4)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(block(x), torch.relu(x))


def test_stride_two_halves_the_map():
    block = BotBlock(8, [4, 6], out_channels=12, num_heads=2, head_dim=4, stride=2)
    assert block(torch.randn(2, 8, 4, 6)).shape == (2, 12, 2, 3)


def test_an_unknown_stride_is_refused():
    with pytest.raises(ValueError, match="BotBlock: stride=3 is not known; use one of 1, 2"):
        BotBlock(8, 4, stride=3)
