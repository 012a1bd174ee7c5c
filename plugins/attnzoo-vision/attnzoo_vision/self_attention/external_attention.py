"""External attention (EANet)."""

import math

import torch
from torch import Tensor, nn

from attnzoo.layers import affine, chain, reset_layers
from attnzoo_vision.ops.batch_norm import BatchNorm2d
from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.joined_norm import project_and_norm
from attnzoo_vision.ops.pooling import widen
from attnzoo_vision.ops.rectify import rectify_
from attnzoo_vision.ops.tokens import add_shortcut, as_tokens, project_back


class ExternalAttention(nn.Module):
    """Attend to a learned memory that all samples share, normalised over positions and then over the memory.

    ``a = softmax_l(K (W x + b))``, ``A = a / (1e-9 + sum_s a)``, ``y = relu(x + batch_norm(W_out V A))``

    Both pairs of projections are multiplied into one before they meet the map, which changes no number.

    Args:
        channels: Channels of the input.
        memory_size: Number of memory slots S.
        momentum: Weight of the new statistics in the running ones of the batch norm.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``; any H and W from 1 on.

    Raises:
        ValueError: ``memory_size`` is below 1.

    Source:
        Guo et al., "Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks", TPAMI 2022,
        arXiv:2105.02358, eq. 5-9. Authors' code: github.com/MenghaoGuo/EANet @ 59c03cb, model_torch.py.
        Deviations: the two memories start as transposes of each other, as theirs do, but never share storage. The
        bias b moves all positions of a slot alike and cancels in the softmax; checkpoints hold it.
    """

    def __init__(self, channels: int, *, memory_size: int = 64, momentum: float = 3e-4) -> None:
        super().__init__()
        self.channels = channels
        check_at_least("ExternalAttention", 1, channels=channels, memory_size=memory_size)
        self.embed = nn.Linear(channels, channels)
        self.memory_key = nn.Linear(channels, memory_size, bias=False)
        self.memory_value = nn.Linear(memory_size, channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        self.norm = BatchNorm2d(channels, momentum=momentum)
        self._start()

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)
        self._start()

    def _start(self) -> None:
        """Initialise as the authors do."""
        std = math.sqrt(2 / self.embed.in_features)
        for layer in (self.embed, self.memory_value, self.out):
            nn.init.normal_(layer.weight, std=std)
        with torch.no_grad():
            self.memory_key.weight.copy_(self.memory_value.weight.t())

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum of ``x_nchw`` and what it reads from the memory, rectified."""
        weight_nsl = self._read(x_nchw)[1]
        value = chain(affine(self.memory_value), affine(self.out))
        y_nchw = project_and_norm(weight_nsl.transpose(1, 2), *value, self.norm, x_nchw)
        return rectify_(add_shortcut(y_nchw, x_nchw))

    def attention(self, x_nchw: Tensor) -> dict[str, Tensor]:
        """Return the softmax over the pixels, ``positions``, and the weights of the slots after it, ``memory``."""
        position_nsl, weight_nsl = self._read(x_nchw)
        size = x_nchw.shape[2:]
        return {"positions": torch.unflatten(position_nsl, 2, size), "memory": torch.unflatten(weight_nsl, 2, size)}

    def _read(self, x_nchw: Tensor) -> tuple[Tensor, Tensor]:
        check_input("ExternalAttention", x_nchw, self.channels)
        key = chain(affine(self.embed), affine(self.memory_key))
        logits_nsl = project_back(as_tokens(x_nchw), *key, x_nchw).flatten(2)
        # in half precision weights, and 1e-9, can vanish, and leave 0 / 0
        position_nsl = torch.softmax(widen(logits_nsl), dim=2)
        weight_nsl = position_nsl / (1e-9 + position_nsl.sum(dim=1, keepdim=True))
        return position_nsl.to(logits_nsl.dtype), weight_nsl.to(logits_nsl.dtype)
