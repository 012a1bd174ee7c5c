"""The recurrent decoder of Bahdanau, Cho and Bengio with its additive attention."""

import torch
from torch import Tensor, nn

from attnzoo_sequence.ops.attend import masked_softmax
from attnzoo_sequence.ops.checks import check_positive
from attnzoo_sequence.ops.masks import check_key_mask
from attnzoo_sequence.scoring.additive_score import AdditiveScore


class BahdanauDecoder(nn.Module):
    """A gated recurrent decoder that reads the source anew at every step, by the state before the step.

    ``a = softmax_j(v . tanh(W s_{t-1} + U h_j))``, ``c = sum_j a_j h_j``;
    ``r, z = sigmoid(E y_t + U s_{t-1} + C c)``; ``s~ = tanh(E y_t + U (r * s_{t-1}) + C c)``;
    ``s_t = z * s~ + (1 - z) * s_{t-1}``

    Args:
        embed_dim: Width of the embeddings of the target.
        hidden_dim: Width of the state.
        key_dim: Width of the annotations of the source; left out: ``2 hidden_dim``, both directions of an encoder.
        align_dim: Width of the hidden layer of the score; left out: ``hidden_dim``.
        bias: Whether gates and candidate have a bias.

    Shape:
        embedding ``(N, T, embed_dim)`` (row t enters step t), state before the first step ``(N, hidden_dim)`` (left
        out: zeros) and key ``(N, S, key_dim)`` to all states ``(N, T, hidden_dim)`` and contexts ``(N, T, key_dim)``.
            ``mask``
        ``(N, S)`` is boolean, True = may attend; padded sources get weight 0, a source without any reads zeros.

    Raises:
        ValueError: A width that is not positive.

    Source:
        Bahdanau et al., ICLR 2015, arXiv:1409.0473, appendix A. Authors' code: github.com/lisa-groundhog/GroundHog
        @ 4d2433b6, experiments/nmt/encdec.py; its initialisation.
        Deviations: the readout (maxout and softmax over words) is not part of the block. Not ``torch.nn.GRUCell``: the
        reset gate comes before the matrix, and ``z`` selects the new state.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int,
        *,
        key_dim: int | None = None,
        align_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        widths = {"embed_dim": embed_dim, "hidden_dim": hidden_dim, "key_dim": key_dim, "align_dim": align_dim}
        check_positive("BahdanauDecoder", **widths)
        key_dim = key_dim or 2 * hidden_dim
        self.hidden_dim = hidden_dim
        self.score = AdditiveScore(hidden_dim, key_dim=key_dim, hidden_dim=align_dim)
        self.input = nn.Linear(embed_dim, 3 * hidden_dim, bias=bias)
        self.context = nn.Linear(key_dim, 3 * hidden_dim, bias=False)
        self.gates = nn.Linear(hidden_dim, 2 * hidden_dim, bias=False)
        self.candidate = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Recurrent matrices are orthogonal, the others N(0, 0.01^2); biases are zero."""
        self.score.reset_parameters()
        for weight in (*self.gates.weight.chunk(2), self.candidate.weight):
            nn.init.orthogonal_(weight)
        for linear in (self.input, self.context):
            nn.init.normal_(linear.weight, std=0.01)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        embedding_ntm: Tensor,
        state_nd: Tensor | None,
        key_nsc: Tensor,
        mask_ns: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the states and the contexts of all steps."""
        states_ntd, contexts_ntc, _ = self._run(embedding_ntm, state_nd, key_nsc, mask_ns)
        return states_ntd, contexts_ntc

    def attention(
        self,
        embedding_ntm: Tensor,
        state_nd: Tensor | None,
        key_nsc: Tensor,
        mask_ns: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return ``attention`` ``(N, T, S)``, the weights of every step."""
        return {"attention": self._run(embedding_ntm, state_nd, key_nsc, mask_ns)[2]}

    def _run(
        self, embedding_ntm: Tensor, state_nd: Tensor | None, key_nsc: Tensor, mask_ns: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return states, contexts and weights of all steps; what does not depend on the state leaves the loop."""
        check_key_mask(mask_ns, key_nsc)
        input_nt3d, projected_nsa = self.input(embedding_ntm), self.score.key(key_nsc)
        if state_nd is None:
            state_nd = input_nt3d.new_zeros(input_nt3d.shape[0], self.hidden_dim)
        states, contexts, weights = [], [], []
        for step in range(embedding_ntm.shape[1]):
            hidden_nsa = torch.tanh(self.score.query(state_nd)[:, None] + projected_nsa)
            weight_ns = masked_softmax(self.score.vector(hidden_nsa).squeeze(-1), mask_ns)
            context_nc = torch.einsum("ns,nsc->nc", weight_ns, key_nsc)
            state_nd = self._step(input_nt3d[:, step] + self.context(context_nc), state_nd)
            states.append(state_nd)
            contexts.append(context_nc)
            weights.append(weight_ns)
        return torch.stack(states, dim=1), torch.stack(contexts, dim=1), torch.stack(weights, dim=1)

    def _step(self, given_n3d: Tensor, state_nd: Tensor) -> Tensor:
        """Return the next state; ``given`` is what input and context give to reset gate, update gate and candidate."""
        gates_n2d, candidate_nd = given_n3d.split([2 * self.hidden_dim, self.hidden_dim], dim=-1)
        reset_nd, update_nd = torch.sigmoid(gates_n2d + self.gates(state_nd)).chunk(2, dim=-1)
        candidate_nd = torch.tanh(candidate_nd + self.candidate(reset_nd * state_nd))
        return state_nd + update_nd * (candidate_nd - state_nd)
