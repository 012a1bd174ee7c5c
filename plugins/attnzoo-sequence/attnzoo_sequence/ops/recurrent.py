"""Recurrences over a matrix state, computed chunk by chunk: equal to the step-by-step form, much faster."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnzoo_sequence.ops.prefix import accumulation_dtype

_DELTA_CHUNK = 64
_GATED_CHUNK = 16


def gated_prefix(
    query_nhld: Tensor, key_nhld: Tensor, value_nhle: Tensor, log_decay_nhld: Tensor, state_nhde: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return outputs and last state of ``S <- diag(exp(g)) S + k v^T; o = S^T q``.

    Inside a chunk each pair of positions is decayed by the difference of summed log decays, which is never positive: no
    exponential can overflow, whatever the decay.
    """
    length, dtype = query_nhld.shape[2], accumulation_dtype(value_nhle)
    if not length:
        return value_nhle, _initial_state(state_nhde, query_nhld, value_nhle)
    query, key, value, log_decay = (
        _chunks(x, _GATED_CHUNK)
        for x in (query_nhld.to(dtype), key_nhld.to(dtype), value_nhle.to(dtype), _finite(log_decay_nhld.to(dtype)))
    )
    sums = log_decay.cumsum(dim=-2)
    last = sums[..., -1:, :]
    later = torch.ones(_GATED_CHUNK, _GATED_CHUNK, dtype=torch.bool, device=key.device).triu(1)
    decay = (sums.unsqueeze(-2) - sums.unsqueeze(-3)).masked_fill(later[..., None], -torch.inf).exp()
    inside = torch.einsum("...id,...ijd,...jd->...ij", query, decay, key) @ value
    from_state, to_state, keep = query * sums.exp(), (key * (last - sums).exp()).transpose(-2, -1), last.exp()
    state = _initial_state(state_nhde, query, value)
    out = []
    added = to_state @ value
    for step in range(query.shape[2]):
        out.append(from_state[:, :, step] @ state)
        state = keep[:, :, step].transpose(-2, -1) * state + added[:, :, step]
    out_nhle = (inside + torch.stack(out, dim=2)).flatten(2, 3)[:, :, :length]
    return out_nhle.to(value_nhle.dtype), state.to(value_nhle.dtype)


def delta_prefix(
    query_nhld: Tensor,
    key_nhld: Tensor,
    value_nhle: Tensor,
    beta_nhl: Tensor,
    log_decay_nhl: Tensor | None,
    state_nhde: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return outputs and last state of ``S <- exp(g) S; S <- S + k (beta (v - S^T k))^T; o = S^T q``.

    With ``G`` the summed log decays of a chunk and ``D_ij = exp(G_i - G_j)``, the corrections ``u`` of a chunk solve
    ``(I + strict_lower(beta k k^T * D)) u = beta (v - exp(G) k S)``: one triangular solve for all chunks at once.
    """
    length, dtype = query_nhld.shape[2], accumulation_dtype(value_nhle)
    if not length:
        return value_nhle, _initial_state(state_nhde, query_nhld, value_nhle)
    query, key, value = (_chunks(x.to(dtype), _DELTA_CHUNK) for x in (query_nhld, key_nhld, value_nhle))
    beta = _chunks(beta_nhl.to(dtype)[..., None], _DELTA_CHUNK)
    score, overlap = query @ key.transpose(-2, -1), (beta * key) @ key.transpose(-2, -1)
    from_state, to_state, read, keep = query, key, beta * key, None
    if log_decay_nhl is not None:
        sums = _chunks(_finite(log_decay_nhl.to(dtype))[..., None], _DELTA_CHUNK).cumsum(dim=-2)
        later = torch.ones(_DELTA_CHUNK, _DELTA_CHUNK, dtype=torch.bool, device=key.device).triu(1)
        decay = (sums - sums.transpose(-2, -1)).masked_fill(later, -torch.inf).exp()
        score, overlap, keep = score * decay, overlap * decay, sums[..., -1:, :].exp()
        from_state, read = query * sums.exp(), read * sums.exp()
        to_state = key * (sums[..., -1:, :] - sums).exp()
    solved = _solve_unit_lower(overlap, torch.cat([beta * value, read], dim=-1))
    correction, reading = solved.split([value.shape[-1], key.shape[-1]], dim=-1)
    state = _initial_state(state_nhde, query, value)
    out_nhle, state = _corrected_scan(
        (from_state, to_state.transpose(-2, -1), score.tril(), correction, reading), keep, state
    )
    return out_nhle[:, :, :length].to(value_nhle.dtype), state.to(value_nhle.dtype)


def _corrected_scan(parts: tuple[Tensor, ...], keep: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of all chunks, joined, and the last state, from what ``delta_prefix`` prepared."""
    from_state, to_state, score, correction, reading = parts
    out = []
    for step in range(score.shape[2]):
        update = correction[:, :, step] - reading[:, :, step] @ state
        out.append(from_state[:, :, step] @ state + score[:, :, step] @ update)
        kept = state if keep is None else keep[:, :, step] * state
        state = kept + to_state[:, :, step] @ update
    return torch.stack(out, dim=2).flatten(2, 3), state


def _chunks(x_nhld: Tensor, size: int) -> Tensor:
    """Return ``(n, h, chunks, size, d)``; the end is filled with zeros, which leave the state as it is."""
    padded = F.pad(x_nhld, (0, 0, 0, -x_nhld.shape[2] % size))
    chunks: Tensor = padded.unflatten(2, (-1, size))
    return chunks


def _finite(log_decay: Tensor) -> Tensor:
    """Return the log decays, none below where ``exp`` is zero: differences of their sums stay finite and exact."""
    return log_decay.clamp(min=-104.0 if log_decay.dtype == torch.float32 else -746.0)


def _initial_state(state_nhde: Tensor | None, query: Tensor, value: Tensor) -> Tensor:
    if state_nhde is not None:
        return state_nhde.to(query.dtype)
    return query.new_zeros(query.shape[0], query.shape[1], query.shape[-1], value.shape[-1])


def _solve_unit_lower(lower: Tensor, right: Tensor) -> Tensor:
    """Solve ``(I + strict_lower(lower)) x = right``."""
    solved: Tensor = torch.linalg.solve_triangular(lower.tril(-1), right, upper=False, unitriangular=True)
    return solved
