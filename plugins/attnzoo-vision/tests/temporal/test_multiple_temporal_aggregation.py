import pytest
import torch
import torch.nn.functional as F

import attnzoo
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
    message = "^MultipleTemporalAggregation: stride=2 needs stage=True; set it, or stride=1$"
    with pytest.raises(ValueError, match=message):
        MultipleTemporalAggregation(8, 4, stride=2)


@pytest.mark.parametrize(
    ("dialect", "said", "frames"),
    [("phoenix1327", {}, 8), ("phoenix1327-16f", {}, 16), ("phoenix1327", {"n_segment": 4}, 4)],
)
def test_the_number_of_frames_is_said_with_the_authors_arguments(tmp_path, dialect, said, frames):
    block = attnzoo.create("multiple-temporal-aggregation", channels=104, num_frames=frames)
    attnzoo.export(block, tmp_path / "a.safetensors", dialect)
    loaded = attnzoo.load_foreign(
        tmp_path / "a.safetensors", "multiple-temporal-aggregation", dialect, inplanes=256, planes=64, **said
    )
    assert loaded.num_frames == frames
