"""Checks of constructor arguments and of inputs, so that every block refuses them in the same words."""

from collections.abc import Sequence

from torch import Tensor

MAP_AXES = {3: "NCL", 4: "NCHW", 5: "NCTHW"}  # by their number, for blocks that take maps of any


def check_at_least(block: str, minimum: float, **values: float | Sequence[float] | None) -> None:
    """Raise ValueError for the first of ``values`` below ``minimum``; None passes, sequences by each number."""
    for name, value in values.items():
        numbers = () if value is None else value if isinstance(value, Sequence) else (value,)
        if any(number < minimum for number in numbers):
            message = f"{block}: {name}={value!r} is below {minimum}; use {minimum} or more"
            raise ValueError(message)


def check_at_most(block: str, name: str, value: int, total_name: str, total: int) -> None:
    """Raise ValueError if ``value`` is above ``total``: a divisor that would leave nothing."""
    if value > total:
        message = f"{block}: {name}={value} is above {total_name}={total}; use {total} or less"
        raise ValueError(message)


def check_divides(
    block: str, name: str, value: int, total_name: str, total: int, *, factor: int = 1, factor_name: str = ""
) -> None:
    """Raise ValueError if ``value``, times ``factor``, does not divide ``total``; the message names what does.

    ``factor_name`` is the argument that the factor comes from; a fixed one has none.
    """
    if value < 1 or total % (value * factor):
        times = "" if factor == 1 else f" times {factor_name}{'=' if factor_name else ''}{factor}"
        advice = f"{name}={_nearest_divisors(value, total // factor)}"
        if total % factor or not total:  # then no value does
            advice = f"{total_name}={_nearest_multiples(max(value, 1) * factor, total)}"
        message = f"{block}: {name}={value}{times} does not divide {total_name}={total}; use {advice}"
        raise ValueError(message)


def check_multiple(block: str, divisor: int, **values: int) -> None:
    """Raise ValueError for the first of ``values`` that ``divisor`` does not divide, or that is below it."""
    for name, value in values.items():
        if value < divisor or value % divisor:
            advice = _nearest_multiples(divisor, value)
            message = f"{block}: {name}={value} is not a multiple of {divisor}; use {advice}"
            raise ValueError(message)


def check_odd(block: str, **values: int | None) -> None:
    """Raise ValueError for the first of ``values`` that is even or below 1; None passes."""
    for name, value in values.items():
        if value is not None and (value < 1 or value % 2 == 0):
            advice = "1" if value < 1 else f"{value - 1} or {value + 1}"
            message = f"{block}: {name}={value} is not a positive odd number; use {advice}"
            raise ValueError(message)


def check_choice(block: str, name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``."""
    if value not in choices:
        message = f"{block}: {name}={value!r} is not known; use one of {', '.join(map(repr, choices))}"
        raise ValueError(message)


def check_probability(block: str, **values: float) -> None:
    """Raise ValueError for the first of ``values`` that is no probability.

    A ``drop_path`` or ``attention_dropout`` of 1 is refused too: stochastic depth and fused kernels divide by 1 - p.
    """
    for name, value in values.items():
        below_one = name in ("drop_path", "attention_dropout")
        if not 0 <= value <= 1 or (below_one and value == 1):
            interval = "[0, 1)" if below_one else "[0, 1]"
            message = f"{block}: {name}={value!r} is not in {interval}; use 0 to drop nothing"
            raise ValueError(message)


def check_input(
    block: str,
    x: Tensor,
    channels: int | None = None,
    axes: str = "NCHW",
    *,
    name: str = "input",
    argument: str = "channels",
) -> None:
    """Raise ValueError unless ``x`` has these axes, and along ``C`` as many numbers as ``channels``; None admits any.

    ``argument`` is the constructor's that the number comes from; a fixed one has none.
    """
    if x.dim() == len(axes):
        # a trace has tensors for sizes, and would warn of a comparison
        if channels is None or isinstance(found := x.shape[axes.index("C")], Tensor) or found == channels:
            return
        wrong = f"{found} channels, expected {argument}{'=' if argument else ''}{channels}"
        advice = f" or build it with {argument}={found}" if argument else ""
    else:
        wrong, advice = f"{x.dim()} axes, expected {len(axes)}", ""
    message = f"{block}: {name} of shape {tuple(x.shape)} has {wrong}; give {_shape(axes, channels)}{advice}"
    raise ValueError(message)


def check_map(block: str, x: Tensor, channels: int) -> None:
    """Raise ValueError unless ``x`` is a map of one, two or three spatial axes with so many ``channels``."""
    axes = MAP_AXES.get(x.dim())
    if axes is None:
        shapes = [_shape(names, channels) for names in MAP_AXES.values()]
        message = f"{block}: input of shape {tuple(x.shape)} has {x.dim()} axes, expected 3 to 5"
        raise ValueError(f"{message}; give {', '.join(shapes[:-1])} or {shapes[-1]}")
    check_input(block, x, channels, axes)


def check_weight(block: str, layer: str, weight: Tensor, *shape: int) -> None:
    """Raise ValueError unless the weight of a layer, which may have been replaced, has this shape."""
    if weight.shape != shape:
        found = f"{layer}.weight of shape {tuple(weight.shape)}"
        message = f"{block}: {found}, expected {shape}; put a layer of these sizes in its place"
        raise ValueError(message)


def _shape(axes: str, channels: int | None) -> str:
    return f"({', '.join(axis if axis != 'C' or channels is None else str(channels) for axis in axes)})"


def _nearest_divisors(value: int, total: int) -> str:
    divisors = [number for number in range(1, total + 1) if total % number == 0]
    below = [number for number in divisors if number < value][-1:]
    above = [number for number in divisors if number > value][:1]
    return " or ".join(map(str, below + above))


def _nearest_multiples(divisor: int, value: int) -> str:
    lower = max(value // divisor, 0) * divisor
    return f"{lower} or {lower + divisor}" if lower else f"{divisor}"
