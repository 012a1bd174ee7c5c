"""Layer of TimeSformer with divided space-time attention."""

import torch
from torch import Tensor, nn

from attnzoo_vision.ops.activation import Activation
from attnzoo_vision.ops.checks import check_input
from attnzoo_vision.ops.drop_path import drop_path
from attnzoo_vision.ops.vit import MLP, SelfAttention, check_layer, init_linear


class DividedSpaceTime(nn.Module):
    """Attend along time at each place, then over the places of each frame, then apply an MLP.

    ``u = x + W attend_t(LN(x))``, ``v = u + attend_s(LN([cls, u]))``, ``y = v + mlp(LN(v))``; the class token takes
    part in the second alone, once in each frame, and gets the mean over frames

    Args:
        embed_dim: Channels of the tokens.
        num_heads: Heads of both attentions.
        mlp_ratio: Hidden units of the MLP as a multiple of ``embed_dim``.
        qkv_bias: Give the projections to queries, keys and values a bias.
        scale: Factor of the logits; None means one over the square root of the channels of a head.
        activation: Nonlinearity of the MLP.
        drop_path: Probability of leaving out a branch while training; drawn for each sequence that is attended over.
        eps: Added to the variance in the norms.
        attention_dropout: Probability of dropping an attention weight, in training.
        dropout: Probability of dropping an element behind each attention's projection, behind the MLP's activation and
            behind the MLP, in training.

    Shape:
        ``x_ntlc`` ``(N, T, L, C)``, T frames of L patches, and ``class_nc`` ``(N, C)`` to the same two; any T and L
        from 1 on.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``mlp_ratio`` leaves no hidden unit, a probability
            is out of its range, or the activation is unknown.

    Source:
        Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021, arXiv:2102.05095,
        eq. 11 and fig. 2. Authors' code: github.com/facebookresearch/TimeSformer @ a5ef29a, timesformer/models/vit.py,
        class Block. The layer behind the temporal attention starts at zero, as there.
        Deviations: patches and class token come as two tensors; theirs are one sequence, first the class token, then
        the frames of each patch side by side.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        scale: float | None = None,
        activation: Activation = "gelu",
        drop_path: float = 0.0,
        eps: float = 1e-6,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        dropouts = {"attention_dropout": attention_dropout, "dropout": dropout}
        hidden = check_layer("DividedSpaceTime", embed_dim, num_heads, mlp_ratio, drop_path=drop_path, **dropouts)
        self.drop_path = drop_path
        self.time_norm = nn.LayerNorm(embed_dim, eps=eps)
        self.time_attention = SelfAttention(embed_dim, num_heads, qkv_bias=qkv_bias, scale=scale, **dropouts)
        self.time_project = nn.Linear(embed_dim, embed_dim)
        self.space_norm = nn.LayerNorm(embed_dim, eps=eps)
        self.space_attention = SelfAttention(embed_dim, num_heads, qkv_bias=qkv_bias, scale=scale, **dropouts)
        self.mlp_norm = nn.LayerNorm(embed_dim, eps=eps)
        self.mlp = MLP("DividedSpaceTime", embed_dim, hidden, activation, dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: truncated normal, and zero behind the temporal attention."""
        init_linear(self)
        for norm in (self.time_norm, self.space_norm, self.mlp_norm):
            norm.reset_parameters()
        nn.init.zeros_(self.time_project.weight)

    def forward(self, x_ntlc: Tensor, class_nc: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches and the class token after the layer."""
        check_input("DividedSpaceTime", x_ntlc, self.embed_dim, "NTLC", argument="embed_dim")
        check_input("DividedSpaceTime", class_nc, self.embed_dim, "NC", name="class", argument="embed_dim")
        x_ntlc = self._attend_time(x_ntlc)
        frames_fmc = self._with_class(x_ntlc, class_nc)
        branch_fmc = self._drop(self.space_attention(self.space_norm(frames_fmc)))
        branch_ntmc = torch.unflatten(branch_fmc, 0, x_ntlc.shape[:2])
        x_ntlc = x_ntlc + branch_ntmc[:, :, 1:]
        class_nc = class_nc + branch_ntmc[:, :, 0].mean(dim=1)
        tokens_nmc = torch.cat((class_nc[:, None], x_ntlc.flatten(1, 2)), dim=1)
        branch_nmc = self._drop(self.mlp(self.mlp_norm(tokens_nmc)))
        # added one by one, so that either output may be written over
        return x_ntlc + torch.unflatten(branch_nmc[:, 1:], 1, x_ntlc.shape[1:3]), class_nc + branch_nmc[:, 0]

    def attention(self, x_ntlc: Tensor, class_nc: Tensor) -> dict[str, Tensor]:
        """Return ``time``, the weights of all frames at each patch and frame, ``(N, L, heads, T, T)``.

        And ``space``, those of the class token (first) and all patches in each frame, ``(N, T, heads, 1 + L, 1 + L)``.
        """
        check_input("DividedSpaceTime", x_ntlc, self.embed_dim, "NTLC", argument="embed_dim")
        check_input("DividedSpaceTime", class_nc, self.embed_dim, "NC", name="class", argument="embed_dim")
        samples, frames, patches, _ = x_ntlc.shape
        time_pgts = self.time_attention.weights(self._columns(x_ntlc))
        space_fgms = self.space_attention.weights(
            self.space_norm(self._with_class(self._attend_time(x_ntlc), class_nc))
        )
        return {
            "time": torch.unflatten(time_pgts, 0, (samples, patches)),
            "space": torch.unflatten(space_fgms, 0, (samples, frames)),
        }

    def _columns(self, x_ntlc: Tensor) -> Tensor:
        """Return the normalised frames of each patch as a sequence, ``(N * L, T, C)``."""
        normalised_ntlc: Tensor = self.time_norm(x_ntlc)
        return normalised_ntlc.transpose(1, 2).flatten(0, 1)

    def _attend_time(self, x_ntlc: Tensor) -> Tensor:
        branch_ptc: Tensor = self.time_project(self._drop(self.time_attention(self._columns(x_ntlc))))
        return x_ntlc + torch.unflatten(branch_ptc, 0, (x_ntlc.shape[0], x_ntlc.shape[2])).transpose(1, 2)

    def _with_class(self, x_ntlc: Tensor, class_nc: Tensor) -> Tensor:
        class_nt1c = class_nc[:, None, None].expand(-1, x_ntlc.shape[1], -1, -1)
        return torch.cat((class_nt1c, x_ntlc), dim=2).flatten(0, 1)

    def _drop(self, branch: Tensor) -> Tensor:
        return drop_path(branch, self.drop_path, self.training)
