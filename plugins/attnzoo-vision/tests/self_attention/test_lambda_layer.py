import pytest
import torch

from attnzoo_vision.self_attention.lambda_layer import LambdaLayer


def test_it_is_the_formula_over_all_displacements():
    torch.manual_seed(0)
    h, w, k = 3, 2, 4
    block = LambdaLayer(6, num_heads=2, key_dim=k, depth=2, feature_size=[h, w]).double().eval()
    x = torch.randn(2, 6, h, w, dtype=torch.float64)
    q, key, v = block.qkv(x).split(block.sizes, dim=1)
    q = block.query_norm(q).view(2, 2, k, h * w)
    key = key.view(2, 2, k, h * w).softmax(3)
    v = block.value_norm(v).view(2, 2, 3, h * w)
    expected = torch.zeros(2, 2, 3, h * w, dtype=torch.float64)
    for i in range(h * w):
        matrix = torch.einsum("nukm,nuvm->nkv", key, v)
        for m in range(h * w):
            place = block.place.weight[:, :, m // w - i // w + h - 1, m % w - i % w + w - 1]
            matrix = matrix + torch.einsum("ku,nuv->nkv", place, v[..., m])
        expected[..., i] = torch.einsum("ngk,nkv->ngv", q[..., i], matrix)
    torch.testing.assert_close(block(x), expected.view(2, 6, h, w))


def test_a_smaller_map_uses_the_middle_of_the_places():
    block = LambdaLayer(8, key_dim=4, feature_size=5).eval()
    assert block(torch.randn(1, 8, 2, 3)).shape == (1, 8, 2, 3)


@pytest.mark.parametrize("options", [{"padding_mode": "circular"}, {"padding": 0}, {"padding": 2, "dilation": 2}])
def test_places_that_are_not_those_of_a_zero_padded_window_are_refused(options):
    block = LambdaLayer(8, num_heads=2, key_dim=4, kernel_size=3)
    block.place = torch.nn.Conv2d(1, 4, 3, **{"padding": 1, **options})
    with pytest.raises(ValueError, match=r"^affine: found Conv2d\(1, 4, .*\), expected a convolution with an odd"):
        block(torch.randn(1, 8, 5, 4))


def test_a_map_larger_than_the_table_is_refused():
    message = r"^LambdaLayer: map of 4x5 is larger than feature_size=\[4, 4\]; build it with a larger one$"
    with pytest.raises(ValueError, match=message):
        LambdaLayer(16, feature_size=4)(torch.zeros(1, 16, 4, 5))
