import pytest
import torch

import attnzoo
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


def test_a_copy_of_the_authors_class_loads(tmp_path) -> None:
    block = SGE(groups=3)
    torch.nn.init.normal_(block.weight)
    state = {"weight": block.weight.detach().view(1, 3, 1, 1), "bias": block.bias.detach().view(1, 3, 1, 1)}
    torch.save(state, tmp_path / "a.pth")
    x = torch.randn(2, 6, 4, 3)
    for dialect in ("implus", "xmu"):
        torch.testing.assert_close(attnzoo.load_foreign(tmp_path / "a.pth", "sge", dialect, groups=3)(x), block(x))
