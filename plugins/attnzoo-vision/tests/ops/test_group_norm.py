"""Group norms of single values, and blocks that read the norm of single channels instead of calling it."""

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo_vision.ops.group_norm import GroupNorm
from attnzoo_vision.ops.joined_norm import is_plain_instance_norm

ONE_VALUE = {
    "cot-layer": {"channels": 8, "kernel_size": 1},
    "coxt-layer": {"channels": 16, "kernel_size": 1},
    "ela": {"channels": 8, "norm_groups": 8},
    "ema": {"channels": 8, "groups": 2},
    "non-local": {"channels": 8, "norm": "group", "groups": 8},
    "shuffle-attention": {"channels": 8, "groups": 2},
    "split-ela": {"channels": 1},
}


def test_a_single_value_a_group_becomes_the_bias() -> None:
    norm = GroupNorm(4, 4)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.randn(1, 4, 1, 1)), norm.bias[None, :, None, None])


@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (2, 6), (2, 6, 5), (2, 6, 3, 4)])
def test_other_inputs_give_the_numbers_of_torch(shape: tuple[int, ...]) -> None:
    x, norm = torch.randn(shape), nn.GroupNorm(3, 6)
    assert torch.equal(GroupNorm(3, 6)(x), norm(x))


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("name", ONE_VALUE)
def test_blocks_take_a_single_pixel_of_a_single_sample(name: str, hooked: bool) -> None:
    block = attnzoo.create(name, **ONE_VALUE[name])
    norms = [module for module in block.modules() if isinstance(module, GroupNorm)]
    seen = []
    for norm in norms if hooked else ():
        norm.register_forward_hook(lambda norm, *_: seen.append(norm))
    assert block(torch.randn(1, ONE_VALUE[name]["channels"], 1, 1)).isfinite().all()
    assert set(seen) == set(norms if hooked else ())


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(1, 4), nn.GroupNorm(4, 4, affine=False), nn.InstanceNorm2d(4), nn.Identity()],
    ids=["one group", "no weight", "torch's instance norm", "none"],
)
def test_other_norms_are_to_be_called(norm: nn.Module) -> None:
    assert not is_plain_instance_norm(norm)
    assert is_plain_instance_norm(nn.GroupNorm(4, 4))


@pytest.mark.parametrize("name", ["ema", "shuffle-attention"])
def test_the_norm_called_gives_the_numbers_of_the_norm_read(name: str) -> None:
    torch.manual_seed(0)
    block = attnzoo.create(name, **ONE_VALUE[name]).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    wanted = [block(x), *block.attention(x).values()]
    upstream = torch.randn_like(x)
    wanted_grads = torch.autograd.grad(wanted[0], [x, *block.parameters()], upstream)
    block.norm.register_forward_hook(lambda *_: None)
    got = [block(x), *block.attention(x).values()]
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(torch.autograd.grad(got[0], [x, *block.parameters()], upstream), wanted_grads)
