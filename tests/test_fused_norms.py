"""Norms folded into the layers before them, as deployment does: every block gives the same numbers without them."""

import copy
import re
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import attnzoo
from attnzoo.testing import subjects_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def pairs_of(block: nn.Module) -> list[tuple[str, str]]:
    """Return the names of layers and of the norms behind them: next in order, or of the same name and ``_norm``."""
    found = dict(block.named_modules())
    near = {(f"{name}.{a}", f"{name}.{b}") for name, m in found.items() for a, b in pairwise(dict(m.named_children()))}
    near = {(a.lstrip("."), b.lstrip(".")) for a, b in near}
    near |= {(name, f"{name}_norm") for name in found}
    near |= {(name, re.sub(r"(\.\d+)$", r"_norm\1", name).replace("convs_norm", "norms")) for name in found}
    return [(layer, norm) for layer, norm in sorted(near) if _fit(found[layer], found.get(norm))]


def _fit(layer: nn.Module, norm: nn.Module | None) -> bool:
    return isinstance(norm, _BatchNorm) and norm.affine and _outputs(layer) == norm.num_features


def _outputs(layer: nn.Module) -> int | None:
    if type(layer) is nn.Linear:
        return layer.out_features
    return layer.out_channels if type(layer) in CONVOLUTIONS else None


def fuse(layer: nn.Module, norm: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))


def subjects_with_pairs() -> list:
    return [pytest.param(s, id=s.id) for s in subjects_of(attnzoo.default_registry()) if pairs_of(s.build())]


def outputs_of(subject, block: nn.Module) -> list[Tensor]:
    inputs = subject.inputs(subject.sizes())
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    return [output for output in subject.call(block, inputs) if output.is_floating_point()]


@pytest.mark.parametrize("subject", subjects_with_pairs())
def test_a_norm_can_be_folded_into_the_layer_before_it(subject):
    block = subject.build().double().eval()
    for norm in (module for module in block.modules() if isinstance(module, _BatchNorm)):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            if tensor is not None:
                tensor.data.normal_()
        norm.running_var.uniform_(0.5, 2)
    fused = copy.deepcopy(block)
    for layer, norm in pairs_of(block):
        fused.set_submodule(layer, fuse(fused.get_submodule(layer), fused.get_submodule(norm)))
        fused.set_submodule(norm, nn.Identity())
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(outputs_of(subject, fused), outputs_of(subject, block))
