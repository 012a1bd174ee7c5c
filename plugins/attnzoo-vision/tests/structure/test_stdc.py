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


def test_widths_that_cannot_be_halved_are_rounded_down():
    block = STDCModule(8, 20)
    assert [conv.conv.out_channels for conv in block.convs] == [10, 5, 2, 2]
    assert block(torch.randn(2, 8, 4, 5)).shape == (2, 19, 4, 5)
    assert STDCModule(19, 20, form="add")(torch.randn(2, 19, 4, 5)).shape == (2, 19, 4, 5)


def test_a_convolution_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"^STDCModule: out_channels=7 is below 8 \(depth=4\); use that or more$"):
        STDCModule(12, 7)


@pytest.mark.parametrize(("channels", "out", "stride", "wanted"), [(12, 16, 1, 12), (20, 20, 1, 20), (8, 20, 2, 20)])
def test_the_sum_needs_one_width(channels, out, stride, wanted):
    joined = 16 if out == 16 else 19
    message = rf"^STDCModule: form='add' with stride={stride} joins {joined} channels \(out_channels={out}\), "
    advice = f"channels={joined}" if stride == 1 else "out_channels of a multiple of 8"
    message += f"expected {wanted}, to which they are added; use {advice}$"
    with pytest.raises(ValueError, match=message):
        STDCModule(channels, out, stride=stride, form="add")


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


def test_a_loss_without_a_scale_is_refused():
    message = r"^DetailGuidanceLoss: scale_weights is empty, expected a weight for stride 1, 2, \.\.\.; give one$"
    with pytest.raises(ValueError, match=message):
        DetailGuidanceLoss(scale_weights=[])
