import pytest
import torch
import torch.nn.functional as F

from attnzoo_vision.temporal.multiple_temporal_aggregation import MultipleTemporalAggregation


def along_time(x, weight, frames):
    clips = x.view(-1, frames, *x.shape[1:]).permute(0, 3, 4, 2, 1).flatten(0, 2)
    y = F.conv1d(clips, weight[:, None], padding=1, groups=weight.shape[0])
    return y.view(-1, *x.shape[2:], x.shape[1], frames).permute(0, 4, 3, 1, 2).flatten(0, 1)


@pytest.mark.parametrize("stage", [False, True])
def test_groups_are_filtered_along_time_and_convolved(stage):
    block = MultipleTemporalAggregation(8, 3, stage=stage, stride=2 if stage else 1).double().eval()
    for weight in block.filters:
        weight.data.normal_()
    x = torch.randn(6, 8, 5, 4).double()
    results = []
    for i, group in enumerate(x.split(2, 1)[:3]):
        group = group + results[-1] if i and not stage else group
        results.append(block.convs[i](along_time(group, block.filters[i], 3)))
    last = along_time(x[:, 6:], block.filters[3], 3)
    expected = torch.cat([*results, F.avg_pool2d(last, 3, 2, 1) if stage else last], 1)
    torch.testing.assert_close(block(x), expected)


def test_the_last_group_starts_as_a_shift_by_a_frame():
    x = torch.randn(4, 8, 2, 2)
    y = MultipleTemporalAggregation(8, 4)(x)
    torch.testing.assert_close(y[:-1, 6], x[1:, 6])
    torch.testing.assert_close(y[1:, 7], x[:-1, 7])


def test_a_stride_without_stage_is_refused():
    with pytest.raises(ValueError, match=r"^MultipleTemporalAggregation: stride=2 needs stage=True$"):
        MultipleTemporalAggregation(8, 4, stride=2)
