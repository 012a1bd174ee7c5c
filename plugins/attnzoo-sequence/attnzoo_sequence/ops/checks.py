"""Checks of constructor arguments, so that every block refuses them in the same words."""


def check_positive(block: str, **values: float | None) -> None:
    """Raise ValueError for the first of ``values`` that is 0 or below; None passes."""
    for name, value in values.items():
        if value is not None and value <= 0:
            message = f"{block}: {name}={value!r} is not positive; use a number above 0"
            raise ValueError(message)


def check_divides(block: str, name: str, value: int, total_name: str, total: int) -> None:
    """Raise ValueError if ``value`` does not divide ``total``; the message names the divisors next to it."""
    if value < 1 or total % value:
        advice = f"use {name}={_nearest_divisors(value, total)}"
        message = f"{block}: {name}={value} does not divide {total_name}={total}; {advice}"
        raise ValueError(message)


def check_heads(block: str, embed_dim: int, num_heads: int) -> None:
    """Raise ValueError if ``num_heads`` does not divide ``embed_dim``, or one of them is not positive."""
    check_positive(block, embed_dim=embed_dim, num_heads=num_heads)
    check_divides(block, "num_heads", num_heads, "embed_dim", embed_dim)


def check_choice(block: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``."""
    if value not in choices:
        message = f"{block}: {name}={value!r} is not known; use one of {', '.join(map(repr, choices))}"
        raise ValueError(message)


def _nearest_divisors(value: int, total: int) -> str:
    divisors = [number for number in range(1, total + 1) if total % number == 0]
    below = [number for number in divisors if number < value][-1:]
    above = [number for number in divisors if number > value][:1]
    return " or ".join(map(str, below + above))
