"""Slot attention: slots compete for the parts of an input, several rounds."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask
from attnzoo_sequence.ops.norm import or_one


class SlotAttention(nn.Module):
    """Explain an input by a few slots, which compete for the tokens in rounds and take the mean of what they win.

    ``slots = mu + exp(log_sigma) noise``, then ``iterations`` times: ``a = softmax over slots(k . q / sqrt(c)) + eps``,
    ``u = sum_m a_m v_m / sum_m a_m``, ``slots = GRU(u, slots)``, ``slots = slots + W2 relu(W1 LayerNorm(slots))``;
    ``q`` from ``LayerNorm(slots)``, ``k`` and ``v`` from ``LayerNorm(x)``.

    Args:
        embed_dim: Width of tokens and slots.
        num_slots: Number of slots.
        iterations: Rounds.
        hidden_channels: Hidden width of the MLP.
        eps: Added to the weights of the tokens before they are divided by their sum.
        bias: Whether query, key and value projections have biases (the authors' have none).

    Shape:
        ``(N, M, C)``, noise ``(N, num_slots, C)`` (left out: drawn from the normal distribution), mask ``(N, M)`` with
        True = token, to ``(N, num_slots, C)``. Without tokens a slot is updated with zeros.

    Raises:
        ValueError: ``num_slots``, ``iterations``, ``hidden_channels`` or ``eps`` is not positive.

    Source:
        Locatello et al., "Object-Centric Learning with Slot Attention", NeurIPS 2020, arXiv:2006.15055, algorithm 1.
        Authors' code: github.com/google-research/google-research @ 0c1bbe5, slot_attention/model.py.
        Deviations: eps of LayerNorm is 1e-5 (Keras: 1e-3); a mask, applied after the softmax over slots; the noise may
        be given.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_slots: int = 7,
        iterations: int = 3,
        hidden_channels: int = 128,
        eps: float = 1e-8,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_positive("SlotAttention", num_slots=num_slots, iterations=iterations, hidden_channels=hidden_channels)
        check_positive("SlotAttention", embed_dim=embed_dim, eps=eps)
        self.num_slots = num_slots
        self.iterations = iterations
        self.eps = eps
        self.scale = embed_dim**-0.5
        self.mean = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.log_std = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.query = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.key = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.value = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.update = nn.GRUCell(embed_dim, embed_dim)
        self.norm_input = nn.LayerNorm(embed_dim)
        self.norm_slots = nn.LayerNorm(embed_dim)
        self.norm_mlp = nn.LayerNorm(embed_dim)
        self.mlp_in = nn.Linear(embed_dim, hidden_channels)
        self.mlp_out = nn.Linear(hidden_channels, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as Keras does: Glorot uniform, recurrent weights orthogonal, biases zero."""
        bound = (6 / (1 + self.mean.shape[-1])) ** 0.5
        nn.init.uniform_(self.mean, -bound, bound)
        nn.init.uniform_(self.log_std, -bound, bound)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        nn.init.xavier_uniform_(self.update.weight_ih)
        nn.init.orthogonal_(self.update.weight_hh)
        nn.init.zeros_(self.update.bias_ih)
        nn.init.zeros_(self.update.bias_hh)

    def _rounds(self, x_nmc: Tensor, noise_nsc: Tensor | None, mask_nm: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the slots after the last round, and its weights before they are divided by their sum."""
        check_key_mask(mask_nm, x_nmc)
        if noise_nsc is None:
            noise_nsc = torch.randn(x_nmc.shape[0], self.num_slots, x_nmc.shape[2], device=x_nmc.device).to(x_nmc.dtype)
        source = self.norm_input(x_nmc)
        key_nmc, value_nmc = self.key(source), self.value(source)
        slots_nsc = self.mean + self.log_std.exp() * noise_nsc
        share_nsm = key_nmc.new_empty(0)
        for _ in range(self.iterations):
            query_nsc = self.query(self.norm_slots(slots_nsc)) * self.scale
            share_nsm = (query_nsc @ key_nmc.transpose(1, 2)).softmax(dim=1)
            weight_nsm = share_nsm + self.eps
            if mask_nm is not None:
                weight_nsm = weight_nsm * mask_nm[:, None]
            total_ns1 = weight_nsm.sum(dim=2, keepdim=True)
            update_nsc = weight_nsm @ value_nmc / or_one(total_ns1)
            flat = self.update(update_nsc.flatten(0, 1), slots_nsc.flatten(0, 1).to(update_nsc.dtype))
            slots_nsc = flat.unflatten(0, (-1, self.num_slots))
            slots_nsc = slots_nsc + self.mlp_out(torch.relu(self.mlp_in(self.norm_mlp(slots_nsc))))
        return slots_nsc, share_nsm if mask_nm is None else share_nsm * mask_nm[:, None]

    def forward(self, x_nmc: Tensor, noise_nsc: Tensor | None = None, mask_nm: Tensor | None = None) -> Tensor:
        """Return the slots, ``(n, s, c)``."""
        return self._rounds(x_nmc, noise_nsc, mask_nm)[0]

    def attention(
        self, x_nmc: Tensor, noise_nsc: Tensor | None = None, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the share of each token that each slot takes in the last round, ``(n, s, m)``; slots sum to 1."""
        return {"attention": self._rounds(x_nmc, noise_nsc, mask_nm)[1]}
