"""Hard attention: one value is read, chosen by the arg-max or drawn by its weight."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo.layers import reset_layers
from attnzoo_sequence.ops.attend import masked_softmax
from attnzoo_sequence.ops.build_score import ScoreName, build_score
from attnzoo_sequence.ops.checks import check_choice, check_positive
from attnzoo_sequence.ops.masks import check_key_mask


class HardAttention(nn.Module):
    """Read one value for every query: in evaluation the one of the highest score, in training by one of four rules.

    ``p = softmax(score / temperature)``, ``y = s . v`` with ``s`` one-hot:
    ``argmax``: ``s = onehot(argmax p)``, no gradient to the scores;
    ``straight_through``: the same ``s``, its gradient taken as that of ``p``;
    ``gumbel``: ``s = onehot(argmax(score + g))``, ``g`` Gumbel noise, with the gradient of
    ``softmax((score + g) / temperature)``;
    ``reinforce``: ``s ~ p``, no gradient to the scores through ``y`` but through the log-probability, see
    ``reinforce_loss``.

    Args:
        query_dim: Width of the queries.
        score: ``scaled_dot``, ``dot``, ``bilinear`` or ``additive``.
        rule: What is read in training, and where the scores have their gradient from.
        temperature: Divisor of the scores.
        key_dim: Width of the keys; left out: ``query_dim``.
        hidden_dim: Width of the hidden layer of the additive score; left out: ``query_dim``.

    Shape:
        query ``(N, L, query_dim)``, key ``(N, M, key_dim)``, value ``(N, M, E)`` (left out: the keys) to ``(N, L, E)``
        and the log-probabilities of the choices ``(N, L)``. ``mask`` ``(N, M)`` is boolean, True = may be chosen; where
        nothing may be chosen zeros are read and the log-probability is 0. ``generator`` seeds what is drawn.

    Raises:
        ValueError: An unknown rule or score; a temperature that is not positive.

    Source:
        Xu et al., "Show, Attend and Tell", ICML 2015, arXiv:1502.03044, section 4.1,
        github.com/kelvinxu/arctic-captions @ f4565bfe; Gumbel: Jang et al., arXiv:1611.01144; straight-through: Bengio
        et al., arXiv:1308.3432.
        Deviations: evaluation reads the arg-max, not the soft mean; the choice is drawn for each query on its own.
    """

    def __init__(
        self,
        query_dim: int,
        *,
        score: ScoreName = "scaled_dot",
        rule: Literal["argmax", "straight_through", "gumbel", "reinforce"] = "straight_through",
        temperature: float = 1.0,
        key_dim: int | None = None,
        hidden_dim: int | None = None,
    ) -> None:
        super().__init__()
        check_positive("HardAttention", query_dim=query_dim, key_dim=key_dim, hidden_dim=hidden_dim)
        check_positive("HardAttention", temperature=temperature)
        check_choice("HardAttention", "rule", rule, ("argmax", "straight_through", "gumbel", "reinforce"))
        self.rule, self.temperature = rule, temperature
        self.score = build_score("HardAttention", score, query_dim, key_dim, hidden_dim, False)

    def reset_parameters(self) -> None:
        """Give every part its start anew."""
        reset_layers(self)

    def forward(
        self,
        query_nld: Tensor,
        key_nme: Tensor,
        value_nmv: Tensor | None = None,
        mask_nm: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the value that each query chose, and the log-probability of the choice."""
        check_key_mask(mask_nm, key_nme)
        visible = None if mask_nm is None else mask_nm[:, None]
        score_nlm = self.score(query_nld, key_nme)
        choice_nlm, log_prob_nl = self._choose(score_nlm, visible, generator)
        return choice_nlm @ (key_nme if value_nmv is None else value_nmv), log_prob_nl

    def attention(
        self, query_nld: Tensor, key_nme: Tensor, value_nmv: Tensor | None = None, mask_nm: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``score``, the probabilities ``attention`` and the ``choice`` of evaluation, all ``(N, L, M)``."""
        check_key_mask(mask_nm, key_nme)
        visible = None if mask_nm is None else mask_nm[:, None]
        score_nlm = self.score(query_nld, key_nme)
        weight_nlm = masked_softmax(score_nlm / self.temperature, visible)
        return {"score": score_nlm, "attention": weight_nlm, "choice": _highest(score_nlm, visible)}

    def _choose(
        self, score_nlm: Tensor, visible: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the one-hot choice, with the gradient of the rule, and its log-probability."""
        score_nlm = score_nlm / self.temperature
        if visible is not None:
            score_nlm = score_nlm.masked_fill(~visible, torch.finfo(score_nlm.dtype).min)
        drawn = self.training and self.rule in ("gumbel", "reinforce")
        noisy_nlm = score_nlm + _gumbel_noise(score_nlm, self._noise_scale(), generator) if drawn else score_nlm
        choice_nlm = _highest(noisy_nlm, visible)
        log_prob_nl = (score_nlm.log_softmax(dim=-1) * choice_nlm).sum(dim=-1)
        if self.training and self.rule in ("straight_through", "gumbel"):
            weight_nlm = masked_softmax(noisy_nlm, visible)
            choice_nlm = choice_nlm + (weight_nlm - weight_nlm.detach())
        return choice_nlm, log_prob_nl

    def _noise_scale(self) -> float:
        """Gumbel noise joins the scores before they are divided; a draw from the probabilities needs it after."""
        return 1.0 / self.temperature if self.rule == "gumbel" else 1.0


def reinforce_loss(log_prob_nl: Tensor, cost_n: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """Return the term whose gradient is REINFORCE's: ``mean_n (cost_n - baseline) sum_l log p``, the cost as a
    constant.

    A baseline that does not depend on the choices, such as ``moving_baseline``, lowers the variance and adds no bias.
    """
    return ((cost_n - baseline).detach() * log_prob_nl.sum(dim=-1)).mean()


def moving_baseline(baseline: Tensor, cost_n: Tensor, decay: float = 0.9) -> Tensor:
    """Return ``decay * baseline + (1 - decay) * mean(cost)``, as in Xu et al."""
    return decay * baseline + (1.0 - decay) * cost_n.detach().mean()


def _highest(score_nlm: Tensor, visible: Tensor | None) -> Tensor:
    """Return a one-hot tensor at the highest score; zeros where nothing is visible."""
    if not score_nlm.shape[-1]:
        return score_nlm
    index_nl1 = score_nlm.argmax(dim=-1, keepdim=True)
    if visible is not None:
        index_nl1 = score_nlm.masked_fill(~visible, -torch.inf).argmax(dim=-1, keepdim=True)
    one_hot_nlm = torch.zeros_like(score_nlm).scatter(-1, index_nl1, 1.0)
    return one_hot_nlm if visible is None else one_hot_nlm * visible


def _gumbel_noise(score_nlm: Tensor, scale: float, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(score_nlm.shape, generator=generator, device=score_nlm.device, dtype=torch.float32)
    tiny = torch.finfo(torch.float32).tiny
    return (-torch.log(-torch.log(uniform.clamp(tiny, 1.0 - 1e-7)))).to(score_nlm.dtype) * scale
