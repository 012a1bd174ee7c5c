"""Checks of constructor arguments, so that every block refuses them in the same words."""

from collections.abc import Sequence


def at_least(block: str, minimum: float, **values: float | Sequence[float] | None) -> None:
    """Raise ValueError for the first of ``values`` below ``minimum``; None passes, sequences by each number."""
    for name, value in values.items():
        numbers = () if value is None else value if isinstance(value, Sequence) else (value,)
        if any(number < minimum for number in numbers):
            message = f"{block}: {name}={value!r} is below {minimum}, expected at least that"
            raise ValueError(message)


def divides(block: str, divisor_name: str, divisor: int, name: str, value: int) -> None:
    """Raise ValueError if ``divisor`` does not divide ``value``."""
    if value % divisor:
        message = f"{block}: {divisor_name}={divisor} does not divide {name}={value}"
        raise ValueError(message)


def one_of(block: str, name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``."""
    if value not in choices:
        message = f"{block}: {name}={value!r} is not known; use one of {', '.join(map(repr, choices))}"
        raise ValueError(message)
