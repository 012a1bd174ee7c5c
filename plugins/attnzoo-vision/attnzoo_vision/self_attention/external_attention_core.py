"""External attention without the unit around it: two memories and the double normalisation."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.checks import check_at_least, check_input
from attnzoo_vision.ops.compiling import runs_plainly
from attnzoo_vision.ops.pooling import widen


class ExternalAttentionCore(nn.Module):
    """Read, for each token, a learned memory that all samples share, normalised over tokens and then over the memory.

    ``a = softmax_l(K x)``, ``A = a / sum_s a``, ``y = V A``

    Args:
        embed_dim: Channels of a token.
        memory_size: Number of memory slots S.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; any L from 1 on.

    Raises:
        ValueError: A size is below 1.

    Source:
        Guo et al., "Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks", TPAMI 2022,
        arXiv:2105.02358, eq. 5-9. Code: github.com/xmu-xiaoma666/External-Attention-pytorch @ d75848e,
        model/attention/ExternalAttention.py. Deviations: a token whose weights all vanish in rounding reads nothing,
        where theirs divides 0 by 0.
    """

    def __init__(self, embed_dim: int, *, memory_size: int = 64) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        check_at_least("ExternalAttentionCore", 1, embed_dim=embed_dim, memory_size=memory_size)
        self.memory_key = nn.Linear(embed_dim, memory_size, bias=False)
        self.memory_value = nn.Linear(memory_size, embed_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both memories anew, normal with deviation 0.001, as the code that is followed does."""
        for layer in (self.memory_key, self.memory_value):
            nn.init.normal_(layer.weight, std=0.001)

    def forward(self, x_nlc: Tensor) -> Tensor:
        """Return what each token reads from the memory."""
        y_nlc: Tensor = self.memory_value(self._weights(x_nlc))
        return y_nlc

    def attention(self, x_nlc: Tensor) -> dict[str, Tensor]:
        """Return ``memory``, the weight of each slot for each token; those of a token sum to 1."""
        return {"memory": self._weights(x_nlc)}

    def _weights(self, x_nlc: Tensor) -> Tensor:
        check_input("ExternalAttentionCore", x_nlc, self.embed_dim, "NLC", argument="embed_dim")
        logits_nls: Tensor = self.memory_key(x_nlc)
        position_nls = torch.softmax(widen(logits_nls), dim=1)
        total_nl1 = position_nls.sum(dim=2, keepdim=True).clamp_min(torch.finfo(position_nls.dtype).tiny)
        fresh = runs_plainly() and not torch.is_grad_enabled()
        weight_nls = position_nls.div_(total_nl1) if fresh else position_nls / total_nl1
        return weight_nls.to(logits_nls.dtype)
