"""Builds the score that an argument names."""

from typing import Literal

from attnzoo_sequence.ops.checks import check_choice
from attnzoo_sequence.scoring.additive_score import AdditiveScore
from attnzoo_sequence.scoring.bilinear_score import BilinearScore
from attnzoo_sequence.scoring.dot_score import DotScore

ScoreName = Literal["additive", "dot", "scaled_dot", "bilinear"]
Score = AdditiveScore | BilinearScore | DotScore


def build_score(
    block: str, score: ScoreName, query_dim: int, key_dim: int | None, hidden_dim: int | None, bias: bool
) -> Score:
    """Return the score; ``hidden_dim`` and ``bias`` are of the additive one alone."""
    check_choice(block, "score", score, ("additive", "dot", "scaled_dot", "bilinear"))
    if score == "additive":
        return AdditiveScore(query_dim, key_dim=key_dim, hidden_dim=hidden_dim, bias=bias)
    if score == "bilinear":
        return BilinearScore(query_dim, key_dim=key_dim)
    if key_dim not in (None, query_dim):
        message = f"{block}: key_dim={key_dim} differs from query_dim={query_dim}; score={score!r} needs equal widths"
        raise ValueError(message)
    return DotScore(scaled=score == "scaled_dot")
