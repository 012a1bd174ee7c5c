import torch
import torch.nn.functional as F

from attnzoo_vision.self_attention.outlooker import Outlooker


def test_it_is_the_formula():
    torch.manual_seed(0)
    block = Outlooker(8, num_heads=2).double()
    x = torch.randn(2, 5, 4, 8, dtype=torch.float64)
    z = x + block.outlook(block.norm1(x))
    torch.testing.assert_close(block(x), z + block.contract(F.gelu(block.expand(block.norm2(z)))))


def test_drop_path_drops_whole_samples_in_training():
    torch.manual_seed(0)
    block = Outlooker(8, num_heads=2, drop_path=0.9)
    x = torch.randn(64, 2, 2, 8)
    unchanged = (block(x) == x).flatten(1).all(1)
    assert unchanged.any()
    assert not (block.eval()(x) == x).flatten(1).all(1).any()
