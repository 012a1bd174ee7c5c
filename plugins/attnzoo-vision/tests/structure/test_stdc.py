import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.structure.detail_guidance_loss import DetailGuidanceLoss
from attnzoo_vision.structure.stdc_module import STDCModule


@pytest.mark.parametrize("form", ["cat", "add"])
def test_with_stride_1_the_chain_is_concatenated(form):
    block = STDCModule(16, 16, form=form).double().eval()
    x = torch.randn(2, 16, 5, 7).double()
    results, y = [], x
    for conv in block.convs:
        y = torch.relu(conv.norm(conv.conv(y)))
        results.append(y)
    torch.testing.assert_close(block(x), torch.cat(results, 1) + (x if form == "add" else 0))


def test_with_stride_2_the_first_result_is_averaged():
    block = STDCModule(6, 16, stride=2).double().eval()
    x = torch.randn(2, 6, 5, 7).double()
    first = block.convs[0](x)
    torch.testing.assert_close(block(x)[:, :8], F.avg_pool2d(first, 3, 2, 1))
    torch.testing.assert_close(block(x)[:, 8:12], block.convs[1](block.down(first)))


def test_widths_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"^STDCModule: out_channels=12 is no multiple of 8 \(depth=4\)$"):
        STDCModule(12, 12)


def test_the_sum_needs_one_width():
    message = r"^STDCModule: form='add' with stride=1 needs out_channels=16 equal to channels=12$"
    with pytest.raises(ValueError, match=message):
        STDCModule(12, 16, form="add")


def test_the_target_is_edges_of_stride_1_or_2():
    labels = torch.zeros(1, 6, 6)
    labels[:, 2:, 2:] = 3
    target = DetailGuidanceLoss().attention(torch.zeros(1, 1, 6, 6), labels)["target"]
    kernel = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])[None, None]
    fine = F.conv2d(labels[None], kernel, padding=1) > 0.1
    coarse = F.interpolate((F.conv2d(labels[None], kernel, stride=2, padding=1) > 0.1).float(), (6, 6)) > 0
    torch.testing.assert_close(target, (fine | coarse).float())


def test_the_loss_is_cross_entropy_and_dice():
    logits, labels = torch.randn(2, 1, 6, 8).double(), torch.randint(0, 3, (2, 12, 16))
    block = DetailGuidanceLoss()
    target = block.attention(logits, labels)["target"]
    p = F.interpolate(logits, (12, 16), mode="bilinear", align_corners=True).sigmoid()
    bce = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    dice = 1 - (2 * (p * target).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    torch.testing.assert_close(block(logits, labels), torch.stack([bce, dice.mean()]))
