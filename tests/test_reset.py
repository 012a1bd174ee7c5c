"""Every block's `reset_parameters` gives all of it its start, as big models want that are built on the meta device."""

import pytest
import torch

import attnzoo
from attnzoo.testing import subjects_of

DRAWS = 4  # of small tensors, a single one says little about how they are drawn
PLUGINS = ("vision", "sequence")
SUBJECTS = [s for plugin in PLUGINS for s in subjects_of(attnzoo.default_registry(), plugin) if s.build().state_dict()]


def _cases():
    """Return every example of every card; all but the first of each are slow."""
    return [pytest.param(s, id=s.id, marks=[pytest.mark.slow] if "#" in s.id else []) for s in SUBJECTS]


@pytest.mark.parametrize("subject", _cases())
def test_a_reset_block_starts_like_a_new_one(subject):
    fresh = [_tensors(subject.build(seed=seed, lively=False)) for seed in range(DRAWS)]
    again = [_tensors(_reset(subject, seed=DRAWS + seed)) for seed in range(DRAWS)]
    for name, expected in fresh[0].items():
        found = [tensors[name] for tensors in again]
        if all(torch.equal(tensors[name], expected) for tensors in fresh):
            assert all(torch.equal(tensor, expected) for tensor in found), name
        else:
            _expect_alike(name, torch.stack(found), torch.stack([tensors[name] for tensors in fresh]))


def _reset(subject, seed):
    with torch.device("meta"):
        block = subject.cls(**subject.arguments)
    block.to_empty(device="cpu")
    for tensor in _tensors(block).values():
        tensor.fill_(torch.nan if tensor.is_floating_point() else -1)
    torch.manual_seed(seed)
    block.reset_parameters()
    return block


def _tensors(block):
    return {name: tensor.detach() for name, tensor in (*block.named_parameters(), *block.named_buffers())}


def _expect_alike(name, found, fresh):
    """Expect numbers drawn alike: all finite, and if there are enough, of the same mean and of about one deviation."""
    assert found.isfinite().all(), name
    if found.numel() >= 64:
        assert 0.5 < found.std() / fresh.std() < 2, name
        error = fresh.std() * (2 / found.numel()) ** 0.5
        assert (found.mean() - fresh.mean()).abs() < 5 * error, name
