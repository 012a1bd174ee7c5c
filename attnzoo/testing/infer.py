"""A card for a class that has none: arguments guessed from their names, the shape contract from trial runs."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from attnzoo.arguments import full_arguments, parameters_of
from attnzoo.card import Card, fold
from attnzoo.errors import ArgumentError, AttnZooError
from attnzoo.testing.subject import CheckFailure, Subject, tensors_of

__all__ = ["Wishes", "infer_card"]

_CHANNELS = 32
_CHANNEL_WORDS = (
    *("channels", "channel", "in_channels", "in_channel", "in_planes", "inplanes", "planes", "num_channels"),
    *("n_channels", "in_ch", "in_chans", "in_c", "ch", "chan", "inp", "c1", "c", "input_channels", "n_feats"),
    *("out_channels", "out_channel", "out_planes", "out_ch", "c2", "oup"),
)
_EMBED_WORDS = (
    *("embed_dim", "dim", "d_model", "hidden_size", "hidden_dim", "embedding_dim", "model_dim", "in_dim"),
    *("in_features", "features", "out_dim", "dim_in", "dim_out"),
)
_SIZE_WORDS = {
    **dict.fromkeys(("h", "height", "in_h"), "h"),
    **dict.fromkeys(("w", "width", "in_w"), "w"),
    **dict.fromkeys(("seq_len", "length", "num_tokens", "n_tokens", "max_len"), "l"),
    **dict.fromkeys(("frames", "num_frames", "n_segment", "num_segments"), "t"),
}
_SIZES = {"n": 2, "h": 6, "w": 5, "l": 7, "m": 9, "t": 4, "d": 4}
_OTHER_VALUES: Mapping[str, Any] = {
    **dict.fromkeys(("num_heads", "heads", "n_heads", "nhead", "head", "h_heads", "num_head"), 4),
    **dict.fromkeys(("reduction", "ratio", "r", "reduction_ratio", "squeeze_factor", "groups", "group", "g"), 4),
    **dict.fromkeys(("kernel_size", "kernel", "k_size", "ksize", "k"), 3),
    **dict.fromkeys(("window_size", "window", "ws", "head_dim", "dim_head", "d_k", "d_v"), 4),
    **dict.fromkeys(("dropout", "drop", "attn_drop", "proj_drop", "p"), 0.0),
    **dict.fromkeys(("stride", "dilation"), 1),
}
_MAPS = ("n c h w", "n c t h w", "n h w c")
_TOKENS = ("n l c", "n c l", "n t c")
_FIXED_SIDES = (7, 8, 14, 16, 28, 32, 56, 64)


@dataclass(frozen=True)
class Wishes:
    """What a person says about a class instead of leaving it to guesses."""

    arguments: Mapping[str, Any] | None = None
    shape: str | None = None
    axes: Mapping[str, Any] | None = None


def infer_card(cls: Any, wishes: Wishes = Wishes()) -> Card:
    """Return a card for ``cls``; what ``wishes`` says is taken, the rest is guessed and tried.

    Raises:
        ArgumentError: A required argument has a name from which no value can be guessed.
        CheckFailure: The class cannot be built, or its forward takes none of the usual inputs.
    """
    example = _example(cls, dict(wishes.arguments or {}))
    first_line = (inspect.getdoc(cls) or "").strip().partition("\n")[0]
    blank = Card(
        name=_block_name(cls.__name__),
        class_name=cls.__name__,
        module=cls.__module__,
        summary=first_line or f"{cls.__name__}.",
        domain="mixed",
        shape=wishes.shape or "",
        example=example,
        axes=dict(wishes.axes or _axes(cls, example)),
        cls=cls,
    )
    _build(blank)
    card = blank if wishes.shape else _tried(blank)
    domain = "mixed" if " h " in f" {card.shape} " else "sequence"
    return replace(card, domain=domain, maps=_maps(card))


def _block_name(name: str) -> str:
    return fold(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).replace("_", "-"))


def _example(cls: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the given arguments, a value for each other required one, and small sizes where the defaults are large."""
    example, unknown = dict(given), []
    for name, parameter in parameters_of(cls).items():
        if name in given:
            continue
        required = parameter.default is inspect.Parameter.empty
        value = _value(name.lower(), parameter.annotation)
        if required and value is None:
            unknown.append(name)
        elif required or (name.lower() in (*_CHANNEL_WORDS, *_EMBED_WORDS) and type(parameter.default) is int):
            example[name] = value
    if unknown:
        call = ", ".join(f"{n}: …" for n in unknown)
        message = (
            f"{cls.__name__}: no value known for the argument{'s' if len(unknown) > 1 else ''} "
            f"{' and '.join(map(repr, unknown))}, expected it to be said; add --args '{{{call}}}'"
        )
        raise ArgumentError(message)
    return example


def _value(name: str, annotation: Any) -> Any:
    if name in _CHANNEL_WORDS or name in _EMBED_WORDS:
        return _CHANNELS
    if name in _SIZE_WORDS:
        return _SIZES[_SIZE_WORDS[name]]
    if name in _OTHER_VALUES:
        return _OTHER_VALUES[name]
    return {bool: False, float: 0.5}.get(annotation)


def _axes(cls: Any, example: Mapping[str, Any]) -> dict[str, str]:
    """Return which axes the arguments fix: channels, and sizes of the map."""
    full = full_arguments(cls, example)
    words = [w for w in (*_CHANNEL_WORDS, *_EMBED_WORDS) if w in {n.lower() for n in full}]
    names = {n.lower(): n for n in full}
    axes = {"c": names[words[0]]} if words else {}
    for word, axis in _SIZE_WORDS.items():
        if word in names and type(full[names[word]]) is int:
            axes.setdefault(axis, names[word])
    return axes


def _build(card: Card) -> nn.Module:
    try:
        block: nn.Module = card.cls(**card.example)
    except Exception as error:
        found = f"{card.class_name}({_call_text(card.example)}) raised {type(error).__name__}: {error}"
        raise CheckFailure(found, mend="mend the constructor, or give other arguments with --args") from error
    return block.eval()


def _call_text(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in arguments.items())


def _tried(card: Card) -> Card:
    """Return ``card`` with the first contract under which forward runs and gives an output that can be named."""
    errors: list[tuple[str, str]] = []
    for shape in _candidates(card):
        tried = replace(card, shape=f"{shape} -> n")
        outputs, error = _run(tried, _SIZES)
        if outputs is not None:
            sizes = Subject("", tried, card.cls, card.example).sizes()
            return replace(card, shape=f"{shape} -> {', '.join(_named(o, shape, sizes) for o in outputs)}")
        errors.append((shape, error))
    raise _no_contract(card, errors)


def _candidates(card: Card) -> Iterator[str]:
    """Yield the inputs of contracts, the likelier ones first: with masks, then without."""
    parameters = [p for p in list(inspect.signature(card.cls.forward).parameters.values())[1:] if p.kind < 2]
    if not parameters:
        found = f"{card.class_name}.forward takes no input, expected a tensor"
        raise CheckFailure(found, mend="define forward(self, x)")
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty] or [parameters[0].name]
    optional = [p.name for p in parameters if p.name not in required and _is_mask(p.name)]
    tokens_first = str(card.axes.get("c", "")).lower() in _EMBED_WORDS or len(required) > 2
    layouts = (*_TOKENS, *_MAPS) if tokens_first else (*_MAPS, *_TOKENS)
    suffix = re.fullmatch(r"\w*_(n[cdhlmtw]+)", required[0])
    for layout in (" ".join(suffix[1]),) if suffix else layouts:
        for masks in ("key", "full", "none") if optional or any(map(_is_mask, required)) else ("none",):
            yield _inputs(required, optional if masks != "none" else [], layout, masks)


def _is_mask(name: str) -> bool:
    return name == "mask" or name.endswith("_mask")


def _inputs(required: list[str], optional: list[str], layout: str, masks: str) -> str:
    if len(required) == 1 and not optional:
        return layout
    others = layout.replace("l", "m") if layout in _TOKENS else layout
    keys = others if any(n.startswith(("key", "k", "context", "memory", "value")) for n in required[1:]) else layout
    hidden = "m" if "m" in keys.split() else "l"
    mask = {"key": f"n {hidden}", "full": f"n l {hidden}", "none": f"n {hidden}"}[masks]
    parts = []
    for number, name in enumerate(required):
        axes = mask if _is_mask(name) else layout if number == 0 else keys
        parts.append(f"{name}: {axes}")
    return ", ".join([*parts, *(f"{name}?: {mask}" for name in optional)])


def _run(card: Card, wanted: Mapping[str, int]) -> tuple[tuple[torch.Tensor, ...] | None, str]:
    subject = Subject(card.name, card, card.cls, card.example)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            block = subject.build()
            outputs: tuple[torch.Tensor, ...] = ()
            for optional in (False, True):
                outputs = tensors_of(block(**subject.inputs(subject.sizes(**wanted), optional=optional)))
    except (CheckFailure, AttnZooError) as error:
        return None, str(error)
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        return None, f"{type(error).__name__}: {text}"
    return (outputs, "") if outputs else (None, "forward returned no tensor")


def _named(output: torch.Tensor, shape: str, sizes: Mapping[str, int]) -> str:
    """Return the axes of an output: those of the first input where the size is the same, then others, then numbers."""
    first = re.sub(r"^\w+\??:", "", shape.partition(",")[0]).split()
    names = []
    for position, size in enumerate(output.shape):
        here = first[position] if position < len(first) else ""
        others = [a for a, s in sizes.items() if s == size and a not in names]
        products = [f"({a} {b})" for a in sizes for b in sizes if a != b and sizes[a] * sizes[b] == size]
        names.append(here if sizes.get(here) == size else (*others, *products, str(size))[0] if size != 1 else "1")
    return " ".join(names)


def _no_contract(card: Card, errors: list[tuple[str, str]]) -> CheckFailure:
    """Say that forward takes nothing that was tried, or that it takes one fixed size."""
    for shape, error in errors:
        if "," in shape:
            continue
        for side in _FIXED_SIDES:
            wanted = {"h": side, "w": side, "l": side * side}
            if _run(replace(card, shape=f"{shape} -> n"), wanted)[0] is not None:
                sizes = " x ".join(str(wanted[a]) for a in shape.split() if a in wanted)
                usual = " x ".join(str(_SIZES[a]) for a in shape.split() if a in wanted)
                return CheckFailure(
                    f"forward takes '{shape}' of size {sizes} and refuses {usual}: {error}",
                    input=f"{dict(card.example)}",
                    mend="take sizes from the input (x.shape) instead of constants; if an argument sets the size, "
                    "name it with --axes, as in --axes '{h: size, w: size}'",
                )
    tried = "; ".join(f"'{shape}': {error}" for shape, error in errors[:3])
    return CheckFailure(
        f"forward takes none of the inputs that were tried: {tried}",
        input=f"{dict(card.example)}",
        mend="mend forward, or say what it takes: --shape 'n c h w -> n c h w'",
    )


def _maps(card: Card) -> dict[str, str]:
    """Return names and shapes of what ``attention(...)`` gives, if the class has it."""
    if not hasattr(card.cls, "attention"):
        return {}
    subject = Subject(card.name, card, card.cls, card.example)
    sizes = subject.sizes()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        found = subject.build().attention(**subject.inputs(sizes))  # type: ignore[operator]
    shape = card.shape.partition("->")[0].strip()
    return {name: _named(value, shape, sizes) for name, value in found.items()} if isinstance(found, dict) else {}
