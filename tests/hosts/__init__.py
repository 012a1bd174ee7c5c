"""Four small hosts as people have them, with weights as if trained: no branch is silent."""

import torch
from torch import nn

from hosts.detector import Detector
from hosts.resnet import ResNet
from hosts.unet import UNet
from hosts.vit import ViT

HOSTS = {"resnet": ResNet, "unet": UNet, "detector": Detector, "vit": ViT}
INPUTS = {"resnet": (2, 3, 32, 32), "unet": (2, 3, 32, 32), "detector": (2, 3, 64, 64), "vit": (2, 3, 32, 32)}
SITES = {"resnet": "layer[12].1", "unet": "bottom", "detector": "stages.*.c2f", "vit": "layers.*.mlp"}


def make_host(name: str, seed: int = 0) -> nn.Module:
    """Return a host in eval mode whose norms have random gains and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        host = HOSTS[name]()
        for module in host.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return host.eval()


def make_input(name: str, seed: int = 1) -> torch.Tensor:
    return torch.randn(INPUTS[name], generator=torch.Generator().manual_seed(seed))


def tensors(output: object) -> list[torch.Tensor]:
    """Return the tensors of an output in order."""
    return torch.utils._pytree.tree_leaves(output)


def same(a: object, b: object) -> bool:
    """Return whether two outputs are equal bit for bit."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    return all(torch.equal(x, y) for x, y in pairs)
