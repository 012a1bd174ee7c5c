"""The public functions, each a composition of the core's parts over this process's registry."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.card import Card, card_of
from attnzoo.errors import ArgumentError, CardError
from attnzoo.registry import add_card, default_registry

if TYPE_CHECKING:
    from torch import nn

    from attnzoo.insertion import What
    from attnzoo.spec import Spec
    from attnzoo.surgery import Insertion, Report

__all__ = [
    "build",
    "create",
    "export",
    "insert",
    "list_blocks",
    "load",
    "load_foreign",
    "load_inserted",
    "register",
    "save",
    "swap",
]


def list_blocks(domain: str | None = None) -> list[Card]:
    """Return the cards of the installed blocks, ordered by id. Imports neither torch nor the blocks.

    Args:
        domain: Only this domain, such as ``channel``.

    Raises:
        NameNotFound: No such domain.
    """
    return [entry.card for entry in default_registry().in_domain(domain)]


def create(name: str, *, weights: str | Path | None = None, **arguments: Any) -> "nn.Module":
    """Build a block by name.

    Args:
        name: A block's id (``vision/se``), short name (``se``) or alias.
        weights: Pretrained weights: a catalogue name, a path or an address. The arguments then come with them.
        **arguments: The arguments of the block's constructor; ``attnzoo show <name>`` lists them.

    Raises:
        NameNotFound, AmbiguousName: The name is not that of one block, or the weights are not known.
        ArgumentError: An argument is unknown, missing or of the wrong type.
        BuildError: The constructor refused the arguments.
        WeightsError: The weights cannot be read or do not fit.
    """
    from attnzoo.builder import build_block

    if weights is not None:
        from attnzoo.weights.resolve import build_with_weights

        if not isinstance(weights, str | Path):
            message = f"weights {weights!r}: of type {type(weights).__name__}, expected a name, path or address"
            raise ArgumentError(message)
        return build_with_weights(default_registry(), name, arguments, str(weights))
    return build_block(default_registry(), name, arguments)


def build(spec: "str | Path | Mapping[str, Any] | Spec") -> "nn.Module":
    """Build what a spec names.

    Args:
        spec: The path of a YAML file, the data of a spec as a mapping, or a `Spec`.

    Raises:
        SpecError: Every fault of the spec, each with ``file:line:column``.
        BuildError: A constructor refused its arguments.
    """
    from attnzoo.builder import build_spec
    from attnzoo.spec_reader import read_spec, spec_from_data

    if isinstance(spec, str | Path):
        return build_spec(read_spec(spec), default_registry())
    if isinstance(spec, Mapping):
        return build_spec(spec_from_data(spec), default_registry())
    return build_spec(spec, default_registry())


def save(block: "nn.Module", path: str | Path, *, licence: str = "", source: str = "") -> None:
    """Save a block to a self-describing safetensors file, atomically.

    Args:
        block: A block that attnzoo built (``create``, ``build`` or ``load``).
        path: The file to write.
        licence: The licence of the weights, kept in the file.
        source: Where the weights come from, kept in the file.

    Raises:
        WeightsError: The block was not built by attnzoo, or the file cannot be written.
    """
    from attnzoo.weights.store import save_block

    save_block(block, path, None, default_registry(), licence=licence, source=source)


def load(path: str | Path) -> "nn.Module":
    """Rebuild a block from a file that `save` wrote.

    Raises:
        WeightsError: The file cannot be read, is damaged, or does not describe itself.
        NameNotFound: The block is not installed.
    """
    from attnzoo.weights.store import load_block

    return load_block(path, default_registry())


def load_foreign(path: str | Path, block: str, dialect: str, *, site: str = "", **theirs: Any) -> "nn.Module":
    """Build a block from another library's checkpoint.

    Args:
        path: A safetensors file (or the index of several), or a torch file, which is read without running code.
        block: The block's name.
        dialect: How the other library spells its tensors; ``attnzoo show <block>`` lists the dialects.
        site: The dotted path of the block in the checkpoint.
        **theirs: The arguments of *their* constructor, as the dialect's signature spells them.

    Raises:
        NameNotFound: No such block or dialect.
        LoadError: Tensors below ``site`` are missing, unexpected or misshapen; ``report`` says which. Nothing is built.
        WeightsError: The file cannot be read.
        DialectError: The arguments are not those of the dialect.
    """
    from attnzoo.weights.checkpoint import open_checkpoint
    from attnzoo.weights.foreign import arguments_from_theirs, build_foreign, dialect_of

    registry = default_registry()
    table = dialect_of(registry.find(block), dialect)
    tensors = open_checkpoint(path).read_below(site)
    arguments = arguments_from_theirs(table, theirs, {k: list(v.shape) for k, v in tensors.items()})
    return build_foreign(registry, block, dialect, arguments, tensors, f"{path}{f' at {site!r}' if site else ''}")


def export(block: "nn.Module", path: str | Path, dialect: str, *, site: str = "") -> list[str]:
    """Write a block to a safetensors file with the names and shapes of another library; return the names.

    Args:
        block: A block that attnzoo built.
        path: The file to write.
        dialect: How the other library spells its tensors.
        site: A dotted path to put before the names.

    Raises:
        WeightsError: The block was not built by attnzoo, or the file cannot be written.
        NameNotFound: The block has no such dialect.
    """
    from attnzoo.weights.foreign import export_block

    return export_block(block, path, dialect, default_registry(), site=site)


def insert(model: "nn.Module", what: "What", *, inputs: object = None, **where: Any) -> "Report":
    """Insert a block into any model; all its weights, keys and classes stay as they are.

    Args:
        model: The host.
        what: An ``insert:`` spec (path, data or `Spec`), which says where; or, with ``at``, a block's name, spec or
            module, or a function from a `Site` to a module. Channels are inferred.
        inputs: What to run the host with once, to see shapes: a tensor, shape, tuple or dict; guessed if left out.
        **where: ``at`` (a name, glob, ``re:…``, ``class:…``, class, function, list, or a named placement), ``position``
            (``after``, ``before``, ``replace``), ``identity`` (the output is at first unchanged), ``name``, ``view``
            (``map`` or ``tokens``), ``layout``, ``grid``.

    Raises:
        NameNotFound: The block or the place does not exist.
        SpecError: The spec is not valid.
        SurgeryError: A block does not fit its site. The model is unchanged, as after every error.
    """
    from attnzoo.insertion import insert_spec

    return insert_spec(model, what, default_registry(), inputs=inputs, **where)


def swap(model: "nn.Module", what: "What", *, at: str, **changes: Any) -> "list[nn.Module]":
    """Exchange inserted blocks (glob ``at`` over sites or ``site/name``) and return the old ones.

    Raises:
        NameNotFound: Nothing is inserted there, or there is no such block.
        SurgeryError: The new block does not fit; nothing is changed.
    """
    from attnzoo.insertion import swap_spec

    return swap_spec(model, what, default_registry(), at=at, **changes)


def load_inserted(model: "nn.Module", path: str | Path, *, inputs: object = None) -> "list[Insertion]":
    """Load the blocks that ``attnzoo.save_inserted`` wrote into another copy of the host.

    Raises:
        WeightsError: The file cannot be read.
        SurgeryError: It does not fit the model, or what is inserted in it. The model is unchanged.
    """
    from attnzoo.insertion import load_inserted as load_file

    return load_file(model, path, default_registry(), inputs=inputs)


def register(
    cls: "type[nn.Module] | None" = None,
    *,
    name: str | None = None,
    example: Mapping[str, Any] | None = None,
    shape: str = "n c h w -> n c h w",
    domain: str = "mixed",
    summary: str = "",
) -> Any:
    """Register a class as a block of this process, ``local/<name>``; also usable as a decorator.

    Args:
        cls: An ``nn.Module`` class.
        name: The block's name; by default the class's.
        example: Arguments to build it with in checks.
        shape: Its shape contract in einops notation.
        domain: Its domain.
        summary: One sentence; by default the first line of the class's docstring.

    Raises:
        CardError: ``cls`` is no ``nn.Module`` class, or a fact about it is not valid.
    """
    if cls is None:
        return _decorator(name=name, example=example, shape=shape, domain=domain, summary=summary)
    from torch import nn

    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        message = f"register: {cls!r}, expected a class that is an nn.Module"
        raise CardError(message)
    facts = {"name": name, "example": example, "shape": shape, "domain": domain, "summary": summary}
    add_card(card_of(cls, {k: v for k, v in facts.items() if v not in (None, "")}))
    return cls


def _decorator(**options: Any) -> Callable[["type[nn.Module]"], "type[nn.Module]"]:
    def decorate(cls: "type[nn.Module]") -> "type[nn.Module]":
        register(cls, **options)
        return cls

    return decorate
