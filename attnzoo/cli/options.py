"""Values of options that several commands share."""

import click

__all__ = ["shape_of"]


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """Read ``1,3,224,224`` or ``1x3x224x224`` as a shape; None stays None."""
    if text is None:
        return None
    sizes = text.replace("x", ",").split(",")
    if len(sizes) < 2 or not all(size.strip().isdigit() for size in sizes):
        message = f"{text!r}: a shape such as 1,3,224,224 was expected"
        raise click.BadParameter(message, param_hint="--shape")
    return tuple(int(size) for size in sizes)
