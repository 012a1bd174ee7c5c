import pytest
import torch

from attnzoo_vision.self_attention.outlook_attention import OutlookAttention


@pytest.mark.parametrize(("size", "options"), [((5, 4), {}), ((6, 7), {"kernel_size": 5}), ((1, 1), {}), ((1, 4), {})])
def test_merged_filters_equal_folded_windows(size, options):
    torch.manual_seed(0)
    block = OutlookAttention(8, num_heads=2, **options).double()
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    expected = block.projection(block._folded(x))
    torch.testing.assert_close(block.projection(block._filtered(x)), expected)
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


def test_large_and_small_maps_and_several_heads_at_a_time_have_the_gradients_of_the_folded_windows():
    torch.manual_seed(0)
    block = OutlookAttention(32, num_heads=8).double()
    for size in ((12, 12), (7, 7)):
        x = torch.randn(2, *size, 32, dtype=torch.float64, requires_grad=True)
        outputs = [block(x), block.projection(block._filtered(x)), block.projection(block._folded(x))]
        grad = torch.randn_like(x)
        grads = [torch.autograd.grad(y, [x, *block.parameters()], grad) for y in outputs]
        for y, gradients in zip(outputs[:2], grads[:2], strict=True):
            torch.testing.assert_close(y, outputs[2])
            for found, expected in zip(gradients, grads[2], strict=True):
                torch.testing.assert_close(found, expected)


def test_each_window_is_centred_on_its_pixel():
    torch.manual_seed(0)
    block = OutlookAttention(4, num_heads=1).double()
    x = torch.zeros(1, 5, 5, 4, dtype=torch.float64)
    changed = x.clone()
    changed[:, 2, 2] = 1.0
    assert ((block(changed) - block(x)).abs().amax((0, 3)) > 0).all()


def test_padding_without_a_window_for_each_pixel_is_refused():
    advice = "use an odd kernel_size and padding=kernel_size // 2"
    message = f"OutlookAttention: kernel_size=3 with padding=0 gives no window for each pixel; {advice}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        OutlookAttention(6, padding=0)


def test_a_map_whose_windows_do_not_cover_it_is_refused():
    message = r"OutlookAttention: padding=0 gives 4 windows for a map of \(5, 4\), expected 6; "
    with pytest.raises(ValueError, match=f"^{message}use an odd kernel_size and padding=kernel_size // 2$"):
        OutlookAttention(6, kernel_size=2, stride=2, padding=0)(torch.zeros(1, 5, 4, 6))
