"""Build hosts by name, without pretrained weights. Each library is imported when one of its hosts is asked for."""

from importlib import import_module
from typing import Any

from attnzoo.errors import NameNotFound, near_matches

__all__ = ["segmentation", "timm", "torchvision", "transformers", "ultralytics"]


def torchvision(name: str) -> Any:
    """Build a model of torchvision."""
    models = import_module("torchvision.models")
    _check("torchvision", name, models.list_models())
    return models.get_model(name, weights=None)


def timm(name: str) -> Any:
    """Build a model of timm."""
    library = import_module("timm")
    _check("timm", name, library.list_models())
    return library.create_model(name, pretrained=False)


def ultralytics(name: str) -> Any:
    """Build the ``nn.Module`` of a YOLO from its YAML file."""
    library = import_module("ultralytics")
    try:
        return library.YOLO(f"{name.removesuffix('.yaml')}.yaml").model
    except FileNotFoundError as error:
        message = f"host 'ultralytics/{name}': ultralytics has no such model"
        raise NameNotFound(message) from error


def transformers(name: str) -> Any:
    """Build a base model of transformers from the default configuration of its model type."""
    library = import_module("transformers")
    known = list(import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES)
    _check("transformers", name, known)
    return library.AutoModel.from_config(library.AutoConfig.for_model(name))


def segmentation(name: str) -> Any:
    """Build a model of segmentation-models-pytorch: ``<architecture>-<encoder>``."""
    library = import_module("segmentation_models_pytorch")
    architecture, _, encoder = name.partition("-")
    _check("smp", architecture, library.MODEL_ARCHITECTURES_MAPPING)
    _check("smp", encoder or "resnet34", library.encoders.get_encoder_names())
    return library.create_model(architecture, encoder or "resnet34", encoder_weights=None)


def _check(library: str, name: str, known: Any) -> None:
    names = list(known)
    if name not in names:
        near = near_matches(name, names)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        message = f"host '{library}/{name}': {library} has no {name!r}{hint}"
        raise NameNotFound(message)
