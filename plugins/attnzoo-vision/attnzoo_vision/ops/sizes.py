"""Sizes that are given as one number for both sides, or as a height and a width."""


def pair(size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    """Return ``(height, width)``; one number stands for both."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width
