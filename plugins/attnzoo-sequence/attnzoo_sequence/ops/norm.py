"""Root mean square norm that takes any floating dtype, as inputs under autocast have another one than the weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """Divide by the root mean square of the last axis and multiply by a weight of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed ``x``, in its dtype."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


def or_one(total: Tensor) -> Tensor:
    """Return sums to divide by, 1 for those of nothing: a smaller divisor has no finite gradient."""
    room = 1 if total.dtype == torch.float16 else 2**24  # float16 has no room below the sums that occur
    return total.masked_fill(total < room * torch.finfo(total.dtype).tiny, 1.0)
