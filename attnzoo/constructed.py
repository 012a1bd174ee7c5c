"""Layers that a constructor call takes, as golden files write them: a class, a partial of one, or an object built.

``"torch.nn.SiLU"``, ``{"call": "functools.partial", "args": ["torch.nn.SiLU"], "kwargs": {"inplace": true}}`` and
``{"call": "torch.nn.SiLU"}`` are one layer.
"""

from collections.abc import Mapping
from typing import Any

from attnzoo.errors import ExpressionError

__all__ = ["activation", "batch_norm", "class_name", "keyword"]

_ACTIVATIONS: Mapping[str, str] = {
    "swish": "silu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "hardtanh": "hard_tanh",
    "hardmish": "hard_mish",
    "leakyrelu": "leaky_relu",
    "logsigmoid": "log_sigmoid",
    "gelutanh": "gelu_tanh",
    "quickgelu": "quick_gelu",
}
_FIRST: Mapping[str, tuple[str, float]] = {  # torch's defaults of activations that take a number
    "leakyrelu": ("negative_slope", 0.01),
    "elu": ("alpha", 1.0),
    "celu": ("alpha", 1.0),
}
_BATCH_NORM: Mapping[str, Any] = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
_LAYER: Mapping[str, Any] = {"elementwise_affine": True, "bias": True}


def class_name(layer: Any) -> Any:
    """Return the name of a layer's class, ``"torch.nn.SiLU"``; what is no layer stays as it is."""
    return _opened(layer)[0]


def keyword(layer: Any, name: str, default: Any) -> Any:
    """Return the keyword ``name`` that a layer is built with, or ``default``.

    Raises:
        ExpressionError: It is built with other arguments too; its number of channels and torch's defaults are none.
    """
    options = _opened(layer)[1]
    others = [k for k in _unusual(options, _LAYER) if k not in (name, "0")]
    if others:
        message = f"layer {layer!r} with {', '.join(others)}, expected no argument but {name}"
        raise ExpressionError(message)
    return options.get(name, default)


def activation(layer: Any) -> Any:
    """Return our name of an activation: ``torch.nn.Hardswish``, ``HardSwish`` and ``hard_swish`` are one.

    Raises:
        ExpressionError: It is built with arguments that our names do not have, such as another slope.
    """
    name, options = _opened(layer)
    if not isinstance(name, str):
        return name
    folded = _folded(name)
    options = {k: v for k, v in options.items() if not isinstance(v, bool)}  # such as inplace
    if folded == "gelu" and options.get("approximate") in ("tanh", "none"):
        folded = "gelutanh" if options.pop("approximate") == "tanh" else "gelu"
    if folded in _FIRST:
        argument, usual = _FIRST[folded]
        options = {k: v for k, v in options.items() if k not in ("0", argument) or v != usual}
    if options:
        message = f"activation {layer!r}, expected one without arguments"
        raise ExpressionError(message)
    return _ACTIVATIONS.get(folded, folded)


def batch_norm(layer: Any) -> bool:
    """Say whether a layer is torch's batch norm with torch's own numbers; None and an identity are none.

    Raises:
        ExpressionError: It is another layer, or built with other numbers.
    """
    name, options = _opened(layer)
    folded = _folded(str(name))
    if name is None or folded == "identity":
        return False
    options.pop("0", None)  # the number of channels
    if folded not in ("batchnorm", "batchnorm2d", "syncbatchnorm") or _unusual(options, _BATCH_NORM):
        message = f"norm {layer!r}, expected none or a batch norm with torch's defaults"
        raise ExpressionError(message)
    return True


def mm_batch_norm(norm_cfg: Any) -> bool:
    """Say whether a ``norm_cfg`` of mmcv is a batch norm of maps with torch's own numbers."""
    if not isinstance(norm_cfg, Mapping) or norm_cfg.get("type") not in ("BN", "BN2d", "SyncBN"):
        return False
    return all(norm_cfg.get(name, usual) == usual for name, usual in _BATCH_NORM.items())


def token_norm(layer: Any) -> str | None:
    """Return ``layer`` or ``rms``, the kind of a norm of tokens, as torch and timm call theirs; None for another."""
    folded = _folded(str(class_name(layer)))
    if "2d" in folded:  # one of maps
        return None
    return "layer" if "layernorm" in folded else "rms" if "rmsnorm" in folded else None


def _folded(name: str) -> str:
    """Return the name of a class as names are compared: ``batchnorm2d`` for ``torch.nn.BatchNorm2d``."""
    return name.rpartition(".")[2].replace("_", "").lower()


def _unusual(options: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments that are not ``usual``."""
    return [k for k, v in options.items() if k not in usual or v != usual[k]]


def _opened(layer: Any) -> tuple[Any, dict[str, Any]]:
    """Return the name of a layer's class and the arguments it is built with; those without a keyword by their place."""
    if not isinstance(layer, Mapping) or not set(layer) <= {"call", "args", "kwargs"}:
        return layer, {}
    name, args, keywords = layer.get("call"), list(layer.get("args") or []), dict(layer.get("kwargs") or {})
    if isinstance(name, str) and name.rpartition(".")[2] == "partial" and args:
        name, *args = args
    return name, {**{str(i): value for i, value in enumerate(args)}, **keywords}
