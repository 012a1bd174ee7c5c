"""Run the demo: for each spec, a host, pretrained blocks put into it, the images classified, the maps taken."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from attnzoo.demo.host import SmallCNN
from attnzoo.insertion import insert_spec
from attnzoo.registry import Registry
from attnzoo.spec import InsertSpec, blocks_of
from attnzoo.spec_reader import read_specs
from attnzoo.surgery import inserted

__all__ = ["CLASSES", "DATA", "Images", "Result", "read_images", "run_demo"]

DATA = Path(__file__).parent / "data"
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


@dataclass(frozen=True)
class Images:
    """Images (N, 28, 28) of bytes, their labels, and where they are from."""

    pixels_nhw: Tensor
    labels_n: Tensor
    about: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """One model on the images: what was put in, the classes it says, and a heat map for each image."""

    name: str
    block: str
    weights: str
    block_parameters: int
    host_parameters: int
    predictions_n: Tensor
    accuracy: float
    heat_nhw: Tensor | None
    heat_shows: str


def read_images(path: Path = DATA / "fashion-mnist-60.safetensors") -> Images:
    """Read the shipped images."""
    with safe_open(str(path), framework="pt") as handle:
        about = dict(handle.metadata() or {})
    tensors = load_file(path)
    return Images(tensors["images"], tensors["labels"], about)


def run_demo(images: Images, registry: Registry, specs: Path = DATA / "demo.yaml") -> Iterator[Result]:
    """Yield a result for the plain host, then one for each spec in ``specs``."""
    x_nchw = images.pixels_nhw.unsqueeze(1).float() / 255
    yield _result("no attention", _host("none"), x_nchw, images, "", "")
    for spec in read_specs(specs):
        assert isinstance(spec, InsertSpec)
        block = next(blocks_of(spec))
        name = registry.find(block.block).card.name
        host = _host(name)
        insert_spec(host, spec, registry, inputs=x_nchw[:1])
        yield _result(name, host, x_nchw, images, block.block, block.weights or "")


def _host(name: str) -> SmallCNN:
    host = SmallCNN()
    host.load_state_dict(load_file(DATA / f"host-{name}.safetensors"))
    return host.eval()


@torch.no_grad()
def _result(name: str, model: nn.Module, x_nchw: Tensor, images: Images, block: str, weights: str) -> Result:
    found = inserted(model)
    seen: dict[str, Tensor] = {}
    module = found[0].block if found else None
    if module is not None:
        module.register_forward_hook(lambda _, args, out: seen.update(x=args[0], y=out))
    model.eval()
    predictions_n = model(x_nchw).argmax(1)
    heat, shows = _heat(module, seen) if module is not None else (None, "")
    mine = sum(p.numel() for p in module.parameters()) if module is not None else 0
    return Result(
        name=name,
        block=block,
        weights=weights,
        block_parameters=mine,
        host_parameters=sum(p.numel() for p in model.parameters()) - mine,
        predictions_n=predictions_n,
        accuracy=(predictions_n == images.labels_n).float().mean().item(),
        heat_nhw=heat,
        heat_shows=shows,
    )


def _heat(module: nn.Module, seen: Mapping[str, Tensor]) -> tuple[Tensor, str]:
    """Return a heat map (N, H, W) in [0, 1] and what it shows."""
    x_nchw = seen["x"]
    n, _, h, w = x_nchw.shape
    attention: Callable[[Tensor], Mapping[str, Tensor]] | None = getattr(module, "attention", None)
    maps = attention(x_nchw) if attention is not None else {}
    spatial = [m for m in maps.values() if m.ndim == 4 and m.shape[-2:] == (h, w)]
    pairs = [m for m in maps.values() if m.ndim >= 3 and m.shape[-1] == h * w]
    if spatial:
        return _scaled(spatial[-1].mean(1)), "weight of each place"
    if pairs:
        return _scaled(pairs[-1].reshape(n, -1, h * w).mean(1).view(n, h, w)), "where the attention goes"
    gates = [m for m in maps.values() if m.ndim == 4 and m.shape[-2:] == (1, 1)]
    if gates:
        return _scaled((gates[-1] * x_nchw).mean(1)), "features, weighted by channel"
    return _scaled((seen["y"] - x_nchw).abs().mean(1)), "what the block changes"


def _scaled(heat_nhw: Tensor) -> Tensor:
    low = heat_nhw.amin((1, 2), keepdim=True)
    high = heat_nhw.amax((1, 2), keepdim=True)
    return (heat_nhw - low) / (high - low).clamp_min(1e-12)


def summary(results: list[Result]) -> list[dict[str, Any]]:
    """Return the results as rows of plain values."""
    return [
        {
            "block": r.block or "(none)",
            "weights": r.weights or "-",
            "block parameters": r.block_parameters,
            "host parameters": r.host_parameters,
            "accuracy": r.accuracy,
        }
        for r in results
    ]
