"""Checks of constructor arguments that many blocks share."""


def check_positive(owner: str, **values: int | None) -> None:
    """Refuse a number below 1; ``owner`` is the class that it is reported for, None is let through.

    Raises:
        ValueError: A value is less than 1.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            message = f"{owner}: {name}={value} is less than 1; use a positive number"
            raise ValueError(message)


def check_divides(owner: str, name: str, value: int, what: str, total: int) -> None:
    """Refuse a ``value`` of argument ``name`` that does not divide ``total``, which is called ``what``.

    Raises:
        ValueError: It does not.
    """
    if value < 1 or total % value:
        message = f"{owner}: {name}={value} does not divide {what}={total}"
        raise ValueError(message)
