"""What is under test: a block with one set of arguments, and inputs that its shape contract admits."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.arguments import full_arguments
from attnzoo.card import Card
from attnzoo.registry import Entry, Registry
from attnzoo.shape import Contract, Input, concrete, parse_contract, sizes_for

__all__ = ["CheckFailure", "Subject", "subjects_of"]

_SIZES = {"n": 2, "h": 6, "w": 5, "l": 7, "m": 9, "s": 8, "t": 4, "d": 4}


class CheckFailure(AssertionError):
    """A check failed. ``found`` says what, ``input`` the smallest input that shows it, ``mend`` what to do."""

    def __init__(self, found: str, *, mend: str, input: str = "") -> None:
        self.found, self.mend, self.input = found, mend, input
        shown = f" with {input}" if input else ""
        super().__init__(f"{found}{shown}; {mend}")


@dataclass(frozen=True)
class Subject:
    """A block with one set of arguments."""

    id: str
    card: Card
    cls: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None  # largest size of a free axis; a failed check is tried again with small ones

    @property
    def contract(self) -> Contract:
        """The parsed shape contract."""
        return parse_contract(self.card.shape, f"{self.id}: shape")

    def build(self, *, seed: int = 0, lively: bool = True) -> nn.Module:
        """Build the block; ``lively`` moves every parameter off its initial value, so that zero inits hide nothing."""
        torch.manual_seed(seed)
        block: nn.Module = self.cls(**self.arguments)
        if lively:
            with torch.no_grad():
                for parameter in block.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return block.eval()

    def sizes(self, **wanted: int) -> dict[str, int]:
        """Return axis sizes near ``wanted`` that the contract admits."""
        full = full_arguments(self.cls, self.arguments)
        sizes = {**_SIZES, **wanted}
        if self.limit is not None:
            sizes = {axis: min(size, self.limit) for axis, size in sizes.items()}
        return sizes_for(self.contract, self.card.axes, full, sizes)

    def inputs(self, sizes: Mapping[str, int], *, seed: int = 1, optional: bool = False) -> dict[str, Tensor]:
        """Return random inputs of those sizes by parameter name; optional ones only on request."""
        generator = torch.Generator().manual_seed(seed)
        wanted = [i for i in self.contract.inputs if optional or not i.optional]
        names = self._parameters()
        return {
            names[i.name] if i.name else next(iter(names.values())): self._tensor(i, sizes, generator) for i in wanted
        }

    def cases(self, sizes: Mapping[str, int]) -> list[dict[str, Tensor]]:
        """Return the inputs without the optional ones and, if there are any, those with all of them."""
        required, every = self.inputs(sizes), self.inputs(sizes, optional=True)
        return [required, every] if len(every) > len(required) else [required]

    def call(self, block: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Call the block and return its outputs as a tuple."""
        return tensors_of(block(**inputs))

    def batch_slice(self, inputs: Mapping[str, Tensor], sizes: Mapping[str, int], sample: int) -> dict[str, Tensor]:
        """Return the inputs of one sample of the batch."""
        names = self._parameters()
        result = dict(inputs)
        for spec in self.contract.inputs:
            key = names[spec.name] if spec.name else next(iter(names.values()))
            if key in result and (dim := batch_dim(spec.axes)) is not None:
                result[key] = _sample(result[key], dim, sample, sizes["n"])
        return result

    def output_slice(self, output: Tensor, index: int, sizes: Mapping[str, int], sample: int) -> Tensor | None:
        """Return one sample of output ``index``, or None when it has no batch axis."""
        dim = batch_dim(self.contract.outputs[index])
        return None if dim is None else _sample(output, dim, sample, sizes["n"])

    def describe(self, inputs: Mapping[str, Tensor]) -> str:
        """Say what was put in, for a report."""
        shapes = ", ".join(f"{k} {tuple(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in inputs.items())
        return f"{dict(self.arguments)} and {shapes}"

    def needs_gradient(self, name: str) -> bool:
        """Say whether a parameter or output must have an effect: the card does not say ``gradients of <name>: why``."""
        return not any(fnmatchcase(f"gradients of {name}", key) for key in self.card.exempt)

    def _parameters(self) -> dict[str, str]:
        """Map input names of the contract to parameters of ``forward``."""
        parameters = list(inspect.signature(self.cls.forward).parameters)[1:]
        named = {i.name: _parameter(i.name, parameters, self.id) for i in self.contract.inputs if i.name}
        return named or {"": parameters[0]}

    def _tensor(self, spec: Input, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        shape = concrete(spec.axes, sizes)
        kind = self.card.inputs.get(spec.name, "")
        if kind == "bool" or (not kind and (spec.name == "mask" or spec.name.endswith("_mask"))):
            mask = torch.rand(shape, generator=generator) < 0.7
            mask[..., 0] = True
            return mask
        if match := re.fullmatch(r"index\((\w+)\)", kind):
            return torch.randint(1, sizes[match.group(1)] + 1, shape, generator=generator)
        value = torch.randn(shape, generator=generator) + 0.3
        ranges = {"positive": value.abs() + 0.1, "unit": torch.sigmoid(value), "non_positive": -value.abs()}
        return ranges.get(kind, value)


def subjects_of(registry: Registry, plugin: str | None = None, block: str | None = None) -> list[Subject]:
    """Return the subjects of a registry: one for each example of each card, those of older contract versions too."""
    newest = [registry.find(block)] if block else list(registry)
    wanted = [e for e in newest if plugin in (None, e.plugin.name)]
    return [s for e in wanted for s in (*subjects_of_entry(e), *_older(e))]


def subjects_of_entry(entry: Entry, mark: str = "") -> list[Subject]:
    """Return one subject for each example of a card."""
    cls = entry.card.load_class()
    examples = [entry.card.example, *entry.card.examples]
    return [
        Subject(entry.id + mark + (f"#{number}" if number else ""), entry.card, cls, arguments)
        for number, arguments in enumerate(examples)
    ]


def _older(entry: Entry) -> list[Subject]:
    cards = [c for c in entry.plugin.cards if c.name == entry.card.name and c is not entry.card]
    return [s for c in cards for s in subjects_of_entry(Entry(c, entry.plugin), f"#v{c.version}")]


def tensors_of(result: Any) -> tuple[Tensor, ...]:
    """Return a block's result as a tuple of tensors."""
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, Mapping):
        result = result.values()
    return tuple(r for r in result if isinstance(r, Tensor))


def batch_dim(axes: tuple[str, ...]) -> int | None:
    """Return the position of the batch axis ``n``, also when it is the first of a product such as ``(n t)``."""
    return next((i for i, a in enumerate(axes) if re.match(r"\(?\s*n\b", a)), None)


def _sample(tensor: Tensor, dim: int, sample: int, batch: int) -> Tensor:
    length = tensor.shape[dim] // batch
    return tensor.narrow(dim, sample * length, length)


def _parameter(name: str, parameters: list[str], where: str) -> str:
    hits = [p for p in parameters if p == name or p.rpartition("_")[0] == name]
    if not hits:
        found = f"{where}: the shape contract has an input {name!r}, forward has {', '.join(parameters)}"
        raise CheckFailure(found, mend="name the inputs of the contract as the parameters of forward")
    return hits[0]
