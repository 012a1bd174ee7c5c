"""Products of matrices with single rows or columns."""

import torch
from torch import Tensor

from attnzoo_vision.ops.compiling import compiled_for_cpu


def vector_product(a_nij: Tensor, b_njk: Tensor) -> Tensor:
    """Return ``torch.bmm(a, b)``; where I or K is 1, with a summand, as which a compiler for a CPU leaves it as it is.

    Without one it writes the product out as sums that read the matrix against its grain (torch 2.13 and 2.14).
    """
    if compiled_for_cpu(b_njk) and 1 in (a_nij.shape[1], b_njk.shape[2]):
        return torch.baddbmm(a_nij.new_zeros(1), a_nij, b_njk)
    return torch.bmm(a_nij, b_njk)
