"""Refusals that several blocks share; each names the class, the argument and the way out."""


def check_positive(block: str, **values: float | None) -> None:
    """Refuse values at or below zero; None passes."""
    for name, value in values.items():
        if value is not None and value <= 0:
            message = f"{block}: {name}={value}, expected a positive number"
            raise ValueError(message)


def check_heads(block: str, embed_dim: int, num_heads: int) -> None:
    """Refuse a number of heads that does not divide the width."""
    check_positive(block, embed_dim=embed_dim, num_heads=num_heads)
    if embed_dim % num_heads:
        message = f"{block}: num_heads={num_heads} does not divide embed_dim={embed_dim}"
        raise ValueError(message)


def check_choice(block: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        message = f"{block}: {name}={value!r} is not one of {', '.join(choices)}"
        raise ValueError(message)
