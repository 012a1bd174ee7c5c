"""Non-local: each pairwise function written out, any number of axes, no table of pairs in memory."""

import re

import pytest
import torch

from attnzoo_vision.self_attention.non_local import NonLocal

MODES = ["embedded_gaussian", "gaussian", "dot_product", "concatenation"]


def _weights(block, query_nlc, key_nmc):
    if block.mode == "gaussian":
        return torch.softmax(query_nlc @ key_nmc.mT, dim=2)
    theta_nlr, phi_nmr = block.theta(query_nlc), block.phi(key_nmc)
    if block.mode == "embedded_gaussian":
        return torch.softmax(block.scale * theta_nlr @ phi_nmr.mT, dim=2)
    if block.mode == "dot_product":
        return theta_nlr @ phi_nmr.mT / phi_nmr.shape[1]
    lengths = (-1, theta_nlr.shape[1], phi_nmr.shape[1], -1)
    pairs = torch.cat([theta_nlr.unsqueeze(2).expand(lengths), phi_nmr.unsqueeze(1).expand(lengths)], dim=3)
    return torch.relu(block.pair(pairs)).squeeze(3) / phi_nmr.shape[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(2, 6, 31), (2, 6, 7, 5), (1, 6, 2, 4, 5)])
def test_each_pairwise_function_is_the_papers(mode, shape):
    torch.manual_seed(0)
    block = NonLocal(6, mode=mode, pool_size=2 if len(shape) < 5 else [1, 2, 2])
    if block.pair is not None:
        block.pair.bias = torch.nn.Parameter(torch.zeros(1))  # not of the paper, but somebody may put one there
    block.double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    pool = (torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)[len(shape) - 3]
    key = pool(x, 2 if len(shape) < 5 else [1, 2, 2])
    query_nlc, key_nmc = x.flatten(2).mT, key.flatten(2).mT
    weight_nlm = _weights(block, query_nlc, key_nmc)
    y = block.out(weight_nlm @ block.g(key_nmc)).mT.contiguous()
    expected = x + block.norm(y).view(shape)
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block.attention(x)["pairwise"], weight_nlm)
    cotangent = torch.randn_like(x)
    (found,) = torch.autograd.grad(block(x), x, cotangent)
    (wanted,) = torch.autograd.grad(expected, x, cotangent)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("mode", MODES)
def test_forward_forms_no_table_of_pairs(mode):
    block = NonLocal(4, mode=mode)
    x = torch.randn(1, 4, 40, 40)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple) else (result,):
                largest = max(largest, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
            return result

    with Watch():
        block(x)
    assert largest < 1600 * 1600 // 10


def test_the_block_starts_as_the_identity():
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(NonLocal(4)(x), x)
    torch.testing.assert_close(NonLocal(4, norm="none")(x), x)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="NonLocal: mode='dot' is not known; use one of 'embedded_gaussian'"):
        NonLocal(4, mode="dot")


def test_a_pool_size_of_other_axes_than_the_input_is_refused():
    message = r"^NonLocal: pool_size=\[2, 2, 2\] has 3 numbers, the input 2 axes; give one for each$"
    with pytest.raises(ValueError, match=message):
        NonLocal(8, pool_size=[2, 2, 2])(torch.zeros(1, 8, 4, 4))


@pytest.mark.parametrize("shape", [(2, 18), (1, 18, 2, 2, 2, 2)])
def test_input_of_no_map_is_refused(shape):
    message = rf"^NonLocal: input of shape {re.escape(str(shape))} has {len(shape)} axes, expected 3 to 5; give "
    with pytest.raises(ValueError, match=message + r"\(N, 18, L\), \(N, 18, H, W\) or \(N, 18, T, H, W\)$"):
        NonLocal(18)(torch.zeros(shape))
