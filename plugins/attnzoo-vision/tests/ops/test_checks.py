"""The checks of constructor arguments and of inputs."""

import re

import pytest
import torch

from attnzoo_vision.ops.checks import (
    check_at_least,
    check_at_most,
    check_choice,
    check_divides,
    check_input,
    check_multiple,
    check_odd,
    check_probability,
)


def test_a_number_below_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Gate: reduction=0 is below 1; use 1 or more$"):
        check_at_least("Gate", 1, channels=4, reduction=0)


def test_a_list_is_checked_number_by_number() -> None:
    with pytest.raises(ValueError, match=r"^Gate: dilations=\[1, 0\] is below 1; use 1 or more$"):
        check_at_least("Gate", 1, dilations=[1, 0])


def test_an_argument_that_is_left_out_passes() -> None:
    check_at_least("Gate", 1, hidden_channels=None)


@pytest.mark.parametrize(("number", "advice"), [(3, "2 or 4"), (0, "1"), (20, "16")])
def test_the_divisors_next_to_a_number_that_is_none_are_named(number: int, advice: str) -> None:
    message = f"Gate: groups={number} does not divide channels=16; use groups={advice}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_divides("Gate", "groups", number, "channels", 16)


@pytest.mark.parametrize(
    ("number", "factor", "name", "words"),
    [
        (2, 4, "", "heads=2 times 4 does not divide width=12; use heads=1 or 3"),
        (0, 4, "", "heads=0 times 4 does not divide width=12; use heads=1"),
        (4, 3, "radix", "heads=4 times radix=3 does not divide width=18; use heads=3 or 6"),
        (2, 4, "", "heads=2 times 4 does not divide width=18; use width=16 or 24"),
        (8, 4, "radix", "heads=8 times radix=4 does not divide width=18; use width=32"),
    ],
)
def test_with_a_factor_only_what_is_possible_is_offered(number: int, factor: int, name: str, words: str) -> None:
    total = int(words.split("width=")[1].split(";")[0])
    with pytest.raises(ValueError, match=f"^Pool: {re.escape(words)}$"):
        check_divides("Pool", "heads", number, "width", total, factor=factor, factor_name=name)


def test_a_divisor_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Gate: reduction=16 is above channels=8; use 8 or less$"):
        check_at_most("Gate", "reduction", 16, "channels", 8)


@pytest.mark.parametrize(("number", "advice"), [(20, "16 or 24"), (4, "8"), (0, "8"), (-8, "8")])
def test_the_multiples_next_to_a_number_that_is_none_are_named(number: int, advice: str) -> None:
    with pytest.raises(ValueError, match=f"^Gate: channels={number} is not a multiple of 8; use {advice}$"):
        check_multiple("Gate", 8, channels=number)


@pytest.mark.parametrize(("number", "advice"), [(4, "3 or 5"), (0, "1"), (-3, "1")])
def test_the_odd_numbers_next_to_an_even_one_are_named(number: int, advice: str) -> None:
    with pytest.raises(ValueError, match=f"^Gate: kernel_size={number} is not a positive odd number; use {advice}$"):
        check_odd("Gate", kernel_size=number)


@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^Gate: dropout={value} is not in \[0, 1\]; use 0 to drop nothing$"):
        check_probability("Gate", rest=1.0, dropout=value)


@pytest.mark.parametrize("name", ["drop_path", "attention_dropout"])
def test_a_probability_that_divides_by_its_rest_is_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^Gate: {name}=1.0 is not in \[0, 1\); use 0 to drop nothing$"):
        check_probability("Gate", **{name: 1.0})
    check_probability("Gate", **{name: 0.0})


def test_an_input_of_other_channels_is_refused() -> None:
    check_input("Gate", torch.ones(2, 4, 3, 3), 4)
    words = "Gate: input of shape (2, 1, 3, 3) has 1 channels, expected channels=4; "
    words += "give (N, 4, H, W) or build it with channels=1"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        check_input("Gate", torch.ones(2, 1, 3, 3), 4)


def test_an_input_of_other_axes_is_refused() -> None:
    check_input("Gate", torch.ones(2, 3, 4), 4, "NLC")
    words = "Gate: tokens of shape (3, 4) has 2 axes, expected 3; give (N, L, 4)"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        check_input("Gate", torch.ones(3, 4), 4, "NLC", name="tokens")


def test_channels_that_no_argument_tells_are_refused_without_an_advice_to_build() -> None:
    words = "Gate: prediction of shape (2, 3, 5, 5) has 3 channels, expected 1; give (N, 1, H, W)"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        check_input("Gate", torch.ones(2, 3, 5, 5), 1, name="prediction", argument="")


def test_any_channels_are_admitted_where_none_are_told() -> None:
    check_input("Gate", torch.ones(2, 7, 3, 3))


def test_an_unknown_choice_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^Gate: mode='max' is not known; use one of 'mean', 'sum'$"):
        check_choice("Gate", "mode", "max", ("mean", "sum"))
