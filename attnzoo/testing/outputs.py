"""What the checks do with a block's outputs: call the block, compare shapes and numbers, say what went wrong."""

from torch import Tensor, nn

from attnzoo.testing.subject import CheckFailure, Subject

__all__ = ["call_block", "close", "difference", "expect_shape", "first_line"]

_MEND_FORWARD = "mend forward, or state in `axes:` of the card which sizes are admitted"


def call_block(
    subject: Subject, block: nn.Module, inputs: dict[str, Tensor], mend: str = _MEND_FORWARD
) -> tuple[Tensor, ...]:
    """Return the outputs; an exception becomes a failure that names the input, with ``mend`` as advice."""
    try:
        return subject.call(block, inputs)
    except Exception as error:
        raise CheckFailure(
            f"forward raised {type(error).__name__}: {first_line(error)}",
            input=subject.describe(inputs),
            mend=mend,
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no text"


def expect_shape(subject: Subject, output: Tensor, expected: tuple[int, ...], inputs: dict[str, Tensor]) -> None:
    """Fail if ``output`` has not the ``expected`` shape."""
    if tuple(output.shape) != expected:
        raise CheckFailure(
            f"the output has shape {tuple(output.shape)}, the card's contract says {expected}",
            input=subject.describe(inputs),
            mend="take sizes from the input instead of constants, or correct `shape:` and `axes:` in the card",
        )


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Say whether ``a`` has the shape of ``b`` and differs by ``tolerance`` at most."""
    return a.shape == b.shape and difference(a, b) <= tolerance


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, relative to the largest number of ``b`` where that is above 1."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    scale = max(1.0, b.detach().double().abs().max().item())
    return (a.detach().double() - b.detach().double()).abs().max().item() / scale
