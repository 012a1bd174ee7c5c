import pytest
import torch

from attnzoo_vision.mixed.sge import SGE


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_formula(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = SGE(groups=3).double()
    torch.nn.init.normal_(block.weight)
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    u = x.reshape(6, 4, 5, 7)
    t = (u * u.mean((2, 3), keepdim=True)).sum(1).flatten(1)
    z = ((t - t.mean(1, keepdim=True)) / (t.std(1, keepdim=True) + 1e-5)).view(2, 3, 5, 7)
    gate = torch.sigmoid(z * block.weight[:, None, None] + block.bias[:, None, None]).view(6, 1, 5, 7)
    torch.testing.assert_close(block(x), (u * gate).view_as(x))


def test_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="SGE: groups=0 is below 1; use 1 or more"):
        SGE(groups=0)
