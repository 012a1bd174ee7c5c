"""Learned absolute positions."""

from torch import Tensor, nn

from attnzoo_sequence.ops.checks import check_positive


class LearnedPositions(nn.Module):
    """Add a learned vector for its position to every token.

    ``y_p = x_p + table_(p + skip)``

    Args:
        embed_dim: Width of the tokens.
        max_length: Number of positions that can be told apart; longer inputs are refused by the table.
        skip: Rows of the table before position 0 (OPT and BART keep two, RoBERTa keeps ``padding_idx + 1``).

    Shape:
        ``(N, L, C)`` to ``(N, L, C)`` with ``L <= max_length``. ``first`` is the position of the first token.

    Raises:
        ValueError: A size that is not positive, a negative ``skip``; in the forward pass: too long an input.

    Source:
        Gehring et al., "Convolutional Sequence to Sequence Learning", ICML 2017, arXiv:1705.03122, section 3.1; in the
        form of BERT and GPT-2: N(0, 0.02^2).
        Deviations: none.
    """

    def __init__(self, embed_dim: int, *, max_length: int = 512, skip: int = 0) -> None:
        super().__init__()
        check_positive("LearnedPositions", embed_dim=embed_dim, max_length=max_length)
        if skip < 0:
            message = f"LearnedPositions: skip={skip}, expected 0 or more"
            raise ValueError(message)
        self.max_length, self.skip = max_length, skip
        self.table = nn.Embedding(max_length + skip, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table from N(0, 0.02^2)."""
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x_nlc: Tensor, first: int = 0) -> Tensor:
        """Return the tokens with their positions added."""
        last = first + x_nlc.shape[1]
        if last > self.max_length:
            message = f"LearnedPositions: {last} positions, expected at most max_length={self.max_length}"
            raise ValueError(message)
        return x_nlc + self.table.weight[self.skip + first : self.skip + last].to(x_nlc.dtype)
