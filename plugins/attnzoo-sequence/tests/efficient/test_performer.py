import pytest
import torch

from attnzoo_sequence.efficient.performer import Performer


def formula(block: Performer, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    omega = block.projection.double()

    def features(x: torch.Tensor, top: tuple[int, ...]) -> torch.Tensor:
        x = x * x.shape[-1] ** -0.25
        u = torch.einsum("nhld,fd->nhlf", x, omega)
        exponent = u - (x**2).sum(-1, keepdim=True) / 2 - u.amax(dim=top, keepdim=True)
        return (exponent.exp() + 1e-4) / len(omega) ** 0.5

    weight = torch.einsum("nhlf,nhmf->nhlm", features(query, (-1,)), features(key, (-2, -1)))
    return weight @ value / weight.sum(dim=-1, keepdim=True)


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    block = Performer(4, num_features=7).double()
    query, key, value = (torch.randn(2, 3, m, 4, dtype=torch.float64) for m in (5, 8, 8))
    torch.testing.assert_close(block(query, key, value), formula(block, query, key, value))


def test_masked_keys_leave_the_sum_and_the_normaliser() -> None:
    torch.manual_seed(0)
    block = Performer(4, num_features=7)
    query, key, value = (torch.randn(2, 3, m, 4) for m in (5, 8, 8))
    mask = torch.tensor([True] * 5 + [False] * 3).expand(2, 8)
    torch.testing.assert_close(block(query, key, value, mask), block(query, key[:, :, :5], value[:, :, :5]))


def test_many_features_come_near_softmax_attention() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 16, 4) / 2 for _ in range(3))
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert (Performer(4, num_features=4096, eps=1e-6)(query, key, value) - wanted).abs().max() < 0.02


def test_features_are_redrawn_only_when_asked() -> None:
    block = Performer(4)
    before = block.projection.clone()
    block.redraw(torch.Generator().manual_seed(1))
    after = block.projection.clone()
    block.redraw(torch.Generator().manual_seed(1))
    assert not torch.equal(before, after)
    assert torch.equal(after, block.projection)


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Performer: kernel='exp' is not known; use one of 'softmax', 'relu'$"):
        Performer(4, kernel="exp")  # type: ignore[arg-type]
