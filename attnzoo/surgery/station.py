"""The module that stands between a site and a block, and the ways in which it is called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnzoo.surgery.layout import View
from attnzoo.surgery.values import Slot, get, put

__all__ = ["POSITIONS", "Inserted", "Place", "Position", "Station"]

Position = Literal["before", "after", "replace"]
POSITIONS: tuple[Position, ...] = ("before", "after", "replace")


@dataclass(frozen=True)
class Place:
    """Where and how a block is inserted. Plain data: written into files of inserted weights.

    Attributes:
        site: Name of the host's module.
        site_class: Class name of that module.
        name: Name of the block among those at the site.
        position: Before the module, after it, or in its place.
        slot: Where the tensor is in what the module takes or returns.
        shape: Shape of the tensor when the site was probed.
        out_shape: Shape that is to come back.
        view: From the site's order of axes to the block's.
        identity: Whether a gate of zeros makes the insertion change nothing at first.
        spec: What the block was built from, if that is known.
    """

    site: str
    site_class: str
    name: str
    position: Position
    slot: Slot
    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    view: View
    identity: bool = False
    spec: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def channels(self) -> int:
        """Size of the channel axis at the site."""
        return self.shape[self.view.site.index("c")]


class Station(nn.Module):
    """The child of a site that holds its inserted blocks by name.

    Called as a module it returns its input: a ``Sequential`` that is a site calls all its children in turn.
    """

    def forward(self, x: Any) -> Any:
        """Return ``x``."""
        return x


class Inserted(nn.Module):
    """One block at one site: called by a hook of the site with the site's own input or output.

    ``y = block(x)``, or with a gate ``y = x + gate * (block(x) - x)``, gate one number a channel, zeros at first.

    Args:
        block: The block.
        place: Where it stands.
    """

    def __init__(self, block: nn.Module, place: Place) -> None:
        super().__init__()
        self.block = block
        self.place = place
        self.enabled = True
        self.frozen: list[str] = []
        self.gate = nn.Parameter(torch.zeros(_gate_shape(place))) if place.identity else None
        self._handle: RemovableHandle | None = None
        # What most insertions are is decided once: a forward pass costs a few microseconds over a call by hand.
        self._same_view = place.view.site == place.view.block
        self._bare = not place.slot

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` after the block, in the layout, and where a gate is, the type of ``x``."""
        y = self.block(x) if self._same_view else self._viewed(x)
        if isinstance(y, tuple):
            y = y[0]
        gate = self.gate
        if gate is None:
            return y
        return torch.addcmul(x, gate.to(x.dtype), y.to(x.dtype) - x)

    def _viewed(self, x: Tensor) -> Tensor:
        """Return ``block(x)``, where the block sees ``x`` in another layout."""
        view = self.place.view
        shown, prefix = view.split(x)
        y = self.block(shown)
        return view.merge(y[0] if isinstance(y, tuple) else y, prefix, x)

    def on_input(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        """Pre-hook of a site: run the block on the tensor that goes in."""
        if not self.enabled:
            return None
        slot = self.place.slot
        return put((args, kwargs), slot, self(get((args, kwargs), slot)))

    def on_output(self, _: nn.Module, __: Any, output: Any) -> Any:
        """Forward hook of a site: run the block on the tensor that comes out."""
        if not self.enabled:
            return None
        if self._bare:
            return self(output)
        slot = self.place.slot
        return put(output, slot, self(get(output, slot)))

    def in_place_of(self, *args: Any, **kwargs: Any) -> Any:
        """Forward of a replaced site: run the block on the tensor that goes in and return its output alone."""
        return self(get((args, kwargs), self.place.slot))

    def link(self, site: nn.Module) -> None:
        """Have ``site`` call this block from now on."""
        position = self.place.position
        if position == "before":
            self._handle = site.register_forward_pre_hook(self.on_input, with_kwargs=True)
        elif position == "after":
            self._handle = site.register_forward_hook(self.on_output)
        else:
            self._freeze(site)
            self.switch(site, enabled=self.enabled)

    def unlink(self, site: nn.Module) -> None:
        """Undo ``link``."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        elif "forward" in site.__dict__:
            del site.forward
        for name, parameter in site.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name in self.frozen)
        self.frozen = []

    def switch(self, site: nn.Module, *, enabled: bool) -> None:
        """Let the block run when ``site`` is called, or not."""
        self.enabled = enabled
        if self.place.position != "replace":
            return
        if enabled:
            site.forward = self.in_place_of
        elif "forward" in site.__dict__:
            del site.forward

    def take_over(self, old: "Inserted", site: nn.Module) -> None:
        """Have ``site`` call this block where and when it called ``old``."""
        self.frozen, old.frozen = old.frozen, []
        self._handle, old._handle = old._handle, None
        if self._handle is not None:
            hooks: dict[int, Any] = self._handle.hooks_dict_ref() or {}
            hooks[self._handle.id] = self.on_input if self.place.position == "before" else self.on_output
        self.switch(site, enabled=old.enabled)

    def linked(self, site: nn.Module) -> bool:
        """Return whether ``site`` still calls this block (another library may have dropped its hooks)."""
        if self.place.position == "replace":
            return getattr(site.__dict__.get("forward"), "__self__", None) is self or not self.enabled
        hooks = site._forward_pre_hooks if self.place.position == "before" else site._forward_hooks
        return any(getattr(hook, "__self__", None) is self for hook in hooks.values())

    def extra_repr(self) -> str:
        """Return when the block runs, and what is unusual about it."""
        notes: list[str] = [self.place.position]
        notes += ["identity gate"] if self.place.identity else []
        notes += [] if self.enabled else ["disabled"]
        return ", ".join(notes)

    def _freeze(self, site: nn.Module) -> None:
        """Stop gradients of the replaced module's own parameters: it is no longer called (and DDP waits for them)."""
        for name, parameter in site.named_parameters():
            if not name.startswith("attnzoo.") and parameter.requires_grad:
                parameter.requires_grad_(False)
                self.frozen.append(name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load as any module, but keep the block as it is if the checkpoint is the host's own, from before."""
        if not any(key.startswith(prefix) for key in state_dict):
            state_dict.update({prefix + key: value for key, value in _own_state(self).items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


def _own_state(module: nn.Module) -> dict[str, Any]:
    """Return the state dict of ``module`` with its own parameters, not detached copies (for ``assign=True``)."""
    return {**module.state_dict(), **dict(module.named_parameters(remove_duplicate=False))}


def _gate_shape(place: Place) -> tuple[int, ...]:
    axes_after = len(place.view.site) - place.view.site.index("c") - 1
    return (place.channels, *(1,) * axes_after)
