"""A batch without samples, as a detector without proposals has it: every block gives a result without samples."""

import pytest

import attnzoo
from attnzoo.testing import subjects_of
from attnzoo.testing.subject import batch_dim


@pytest.mark.parametrize("size", [5, 32])  # large maps take other ways through some blocks
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("subject", subjects_of(attnzoo.default_registry()), ids=lambda s: s.id)
def test_block_without_samples(subject, training, size):
    sizes = {**subject.sizes(h=size, w=size), "n": 0}
    block = subject.build().train(training)
    inputs = {k: v.requires_grad_(v.is_floating_point()) for k, v in subject.inputs(sizes).items()}
    try:
        outputs = subject.call(block, inputs)
    except ValueError as error:  # torch's own refusal: there are no statistics of no numbers
        if training and "more than 1 value per channel" in str(error):
            return
        raise
    for output, axes in zip(outputs, subject.contract.outputs, strict=True):
        found = batch_dim(axes)
        assert found is None or output.shape[found] == 0
    tracked = [o.sum() for o in outputs if o.requires_grad]
    if tracked:
        sum(tracked).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in block.parameters())
    if hasattr(block, "attention") and not training:
        block.attention(**inputs)
