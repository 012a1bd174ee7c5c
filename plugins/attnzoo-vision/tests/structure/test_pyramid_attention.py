import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.structure.pyramid_attention import PyramidAttention


@pytest.mark.parametrize("hard", [False, True])
def test_patches_are_rebuilt_from_patches_of_all_sizes(hard):
    block = PyramidAttention(4, levels=3, hard=hard, residual_scale=0.5, softmax_scale=3.0).double()
    x = torch.randn(2, 4, 6, 5).double()
    unfold = lambda t: F.unfold(t, 3, padding=1)  # noqa: E731
    copies = [x, F.interpolate(x, (5, 4), mode="bicubic"), F.interpolate(x, (4, 4), mode="bicubic")]
    keys = torch.cat([unfold(block.key_activation(block.key(c))) for c in copies], 2)
    values = torch.cat([unfold(block.value_activation(block.value(c))) for c in copies], 2)
    query = unfold(block.query_activation(block.query(x)))
    weights = torch.softmax(3 * query.mT @ (keys / keys.norm(dim=1, keepdim=True)), -1)
    if hard:
        weights = F.one_hot(weights.argmax(-1), weights.shape[-1]).double()
    expected = F.fold(values @ weights.mT, (6, 5), 3, padding=1) / 4 + 0.5 * x
    torch.testing.assert_close(block(x), expected)


def test_the_map_sums_to_one_over_all_patches():
    patch = PyramidAttention(4).attention(torch.randn(1, 4, 7, 6))["patch"]
    torch.testing.assert_close(patch.sum(1), torch.ones(1, 7, 6))


def test_too_many_levels_are_refused():
    with pytest.raises(
        ValueError, match=r"^PyramidAttention: levels=11 is above 10, where a level has no size; use 10 or less$"
    ):
        PyramidAttention(4, levels=11)
