"""Values of options that several commands share."""

from typing import Any

import click

__all__ = ["mapping_of", "shape_of"]


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """Read ``1,3,224,224`` or ``1x3x224x224`` as a shape; None stays None."""
    if text is None:
        return None
    sizes = text.replace("x", ",").split(",")
    if len(sizes) < 2 or not all(size.strip().isdigit() for size in sizes):
        message = f"{text!r}: a shape such as 1,3,224,224 was expected"
        raise click.BadParameter(message, param_hint="--shape")
    return tuple(int(size) for size in sizes)


def mapping_of(text: str | None, option: str) -> dict[str, Any] | None:
    """Read ``{channels: 64}`` as a mapping; None stays None."""
    from attnzoo.errors import SpecError
    from attnzoo.yaml_reader import plain, read_yaml

    if text is None:
        return None
    try:
        documents = read_yaml(text, option)
    except SpecError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    if len(documents) != 1 or documents[0].kind != "mapping":
        message = f"{text!r}: a mapping such as '{{channels: 64}}' was expected"
        raise click.BadParameter(message, param_hint=option)
    value: dict[str, Any] = plain(documents[0])
    return value
