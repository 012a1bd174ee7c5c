"""Sizes that are given as one number for both sides, or as a height and a width."""


def pair(block: str, name: str, size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    """Return ``(height, width)``; one number stands for both. ``name`` is the argument of ``block`` that it is.

    Raises:
        ValueError: A list has not two numbers.
    """
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        message = f"{block}: {name}={size!r} has not two numbers; give a height and a width, or one number for both"
        raise ValueError(message)
    return size[0], size[1]
