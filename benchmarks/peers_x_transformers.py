"""x-transformers' ``Attention`` with the weights of one of our blocks, in the configuration that gives its numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from x_transformers import x_transformers as xt  # type: ignore[import-not-found]

Block = Any


def attention(block: Block, options: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return their attention; what lies outside of it (rotations, biases) is handed in as their own layers do."""
    query, key, value = projections(block)
    heads, width = block.num_heads, query.shape[1]
    causal = getattr(block, "causal", False)
    common = {"dim": width, "dim_head": query.shape[0] // heads, "heads": heads, "flash": True, "causal": causal}
    theirs = xt.Attention(**{**common, **options})
    order = head_order(heads, options.get("kv_heads", heads))
    copied = {"to_q": by_head(query, order), "to_k": key, "to_v": value}
    copied["to_out"] = by_head(block.output.weight.T, order).T
    with torch.no_grad():
        for name, weight in copied.items():
            getattr(theirs, name).weight.copy_(weight)
        copy_extras(block, theirs)
    return Beside(theirs, *outside(block))


def projections(block: Block) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices of queries, keys and values; T5's scores are not scaled, theirs are."""
    if hasattr(block, "in_proj"):
        query, key, value = block.in_proj.weight.detach().chunk(3)
        return query, key, value
    query, key, value = (getattr(block, name).weight.detach() for name in ("query", "key", "value"))
    return (query * block.head_dim**0.5 if hasattr(block, "relative_bias") else query), key, value


def head_order(heads: int, groups: int) -> list[int]:
    """Return our head at each of their places: their query head ``h`` reads key head ``h % groups``."""
    return [group * (heads // groups) + turn for turn in range(heads // groups) for group in range(groups)]


def by_head(weight: Tensor, order: list[int]) -> Tensor:
    """Return the rows of the heads in another order."""
    rows: Tensor = weight.unflatten(0, (len(order), -1))[order].flatten(0, 1)
    return rows


def copy_extras(block: Block, theirs: Any) -> None:
    """Copy norms, sinks and mixtures of heads."""
    if hasattr(block, "query_norm"):
        theirs.q_rmsnorm.gamma.copy_((block.query_norm.weight - 1).expand_as(theirs.q_rmsnorm.gamma))
        theirs.k_rmsnorm.gamma.copy_((block.key_norm.weight - 1).expand_as(theirs.k_rmsnorm.gamma))
    if hasattr(block, "sinks"):
        theirs.attend.head_attn_sink.copy_(block.sinks)
    if hasattr(block, "talk_before"):
        before, after = block.talk_before.weight, block.talk_after.weight
        theirs.attend.pre_softmax_talking_heads.weight.copy_((before - torch.eye(len(before)))[..., None, None])
        theirs.attend.post_softmax_talking_heads.weight.copy_(after[..., None, None])


def outside(block: Block) -> tuple[nn.Module | None, nn.Module | None]:
    """Return the rotation and the bias that their transformer hands to its attention."""
    if hasattr(block, "rotary_dim"):
        return xt.RotaryEmbedding(block.rotary_dim, base=block.rotary_base), None
    if hasattr(block, "slopes"):
        return None, xt.AlibiPositionalBias(block.num_heads)
    if hasattr(block, "relative_bias"):
        bias = xt.RelativePositionBias(1.0, heads=block.num_heads)
        bias.relative_attention_bias.load_state_dict(block.relative_bias.state_dict())
        return None, bias
    return None, None


class Beside(nn.Module):
    """Their attention with what their transformer computes beside it, in every call as ours does."""

    def __init__(self, theirs: nn.Module, rotation: nn.Module | None, bias: nn.Module | None) -> None:
        super().__init__()
        self.theirs, self.rotation, self.bias = theirs, rotation, bias

    def forward(self, x_nlc: Tensor) -> Tensor:
        """Return the attended tokens."""
        given: dict[str, Any] = {}
        if self.rotation is not None:
            given["rotary_pos_emb"] = self.rotation.forward_from_seq_len(x_nlc.shape[1])  # type: ignore[operator]
        if self.bias is not None:
            given["rel_pos"] = self.bias
        output_nlc: Tensor = self.theirs(x_nlc, **given)
        return output_nlc
