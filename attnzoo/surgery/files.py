"""Save the inserted blocks alone, and put them into another copy of the host."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from attnzoo import __version__
from attnzoo.errors import SurgeryError, WeightsError, did_you_mean
from attnzoo.surgery.attach import insert
from attnzoo.surgery.layout import View
from attnzoo.surgery.life import Insertion, inserted, order_again, remove
from attnzoo.surgery.sites import STATION, host_modules
from attnzoo.surgery.station import Inserted, Place

__all__ = ["load_inserted", "save_inserted"]

_KEY = "attnzoo"
_KIND = "inserted"
_FORMAT = 1

Build = Callable[[Place], nn.Module]


def save_inserted(
    host: nn.Module, path: Path | str, *, at: str | None = None, licence: str = "", source: str = ""
) -> None:
    """Write the inserted blocks of ``host`` (those that fit ``at``), with where they stood, to a safetensors file.

    Args:
        host: A host with inserted blocks.
        path: The file to write. Its tensors have the names they have in the host's state dict.
        at: Glob over sites or keys, see :func:`inserted`.
        licence: Licence of the weights, kept in the file.
        source: Where they come from, kept in the file.

    Raises:
        SurgeryError: Nothing is inserted in ``host``.
        WeightsError: The file cannot be written.
    """
    from attnzoo.weights.store import atomic_write

    items = inserted(host, at)
    if not items:
        message = f"host {type(host).__name__}: nothing is inserted in it, so there is nothing to save"
        raise SurgeryError(message)
    about = {"format": _FORMAT, "kind": _KIND, "attnzoo": __version__, "host": type(host).__name__}
    about |= {key: text for key, text in (("licence", licence), ("source", source)) if text}
    about["blocks"] = [_record(item) for item in items]
    about["spec"] = _insert_document(items)
    data = tensors_to_bytes(_tensors(items), {_KEY: json.dumps(about, sort_keys=True)})
    atomic_write(path, data)


def load_inserted(
    host: nn.Module, path: Path | str, build: Build | None = None, *, inputs: object = None
) -> list[Insertion]:
    """Load inserted blocks from a file: build and insert them, or fill those that are inserted already.

    Args:
        host: A host as the blocks were trained in, with nothing inserted, or with the same blocks at the same sites.
        path: A file written by :func:`save_inserted`.
        build: Makes the block of a :class:`Place` (from its ``spec``); only needed for a host without them.
        inputs: What to probe the host with, see :func:`probe`.

    Raises:
        WeightsError: The file cannot be read.
        SurgeryError: It does not fit the host, or what is inserted there. The host is unchanged.
    """
    about, tensors = _read(path)
    records = about["blocks"]
    places = [_place(record, path) for record in records]
    _check_host(host, places, records, path)
    present = inserted(host)
    if present:
        _check_same(present, places, path)
        _fill(present, tensors, path)
        return present
    if build is None:
        message = f"{path}: {type(host).__name__} has no inserted blocks to fill; insert them, or give build=…"
        raise SurgeryError(message)
    return _insert_and_fill(host, places, tensors, (path, build, inputs))


def _insert_and_fill(
    host: nn.Module, places: list[Place], tensors: Mapping[str, Tensor], how: tuple[Path | str, Build, object]
) -> list[Insertion]:
    path, build, inputs = how
    orders = [
        replace(order_again(place, build(place)), name=place.name, describe=_told(place), layout=None)
        for place in places
    ]
    insert(host, orders, inputs=inputs)
    items = inserted(host)
    try:
        _fill(items, tensors, path)
    except SurgeryError:
        remove(host)
        raise
    return items


def _told(place: Place) -> Callable[[nn.Module], Mapping[str, Any] | None]:
    return lambda _: place.spec


def _fill(items: list[Insertion], tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Copy ``tensors`` into the inserted blocks, all or nothing."""
    from attnzoo.weights.store import compare_tensors

    report = compare_tensors(_Bag(_flat(items)), tensors)
    if not report.ok:
        message = f"{path}: its tensors do not fit the inserted blocks: {report}; nothing is loaded"
        raise SurgeryError(message)
    for item in items:
        prefix = _prefix(item)
        item.module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})


def _prefix(item: Insertion) -> str:
    place = item.module.place
    return ".".join(part for part in (place.site, STATION, place.name) if part) + "."


def _flat(items: list[Insertion]) -> dict[str, Tensor]:
    return {_prefix(item) + key: value for item in items for key, value in item.module.state_dict().items()}


class _Bag(nn.Module):
    """Stands for several modules where one with their joint state dict is wanted."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._state = dict(state)

    def state_dict(self, *_: Any, **__: Any) -> Any:
        return self._state


def _tensors(items: list[Insertion]) -> dict[str, Tensor]:
    """Return the tensors, each with memory of its own: a file cannot say that two are one."""
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in _flat(items).items()}


def _record(item: Insertion) -> dict[str, Any]:
    place = asdict(item.module.place)
    return {**place, "block": type(item.block).__name__, "digest": _digest(item.site)}


def _place(record: Mapping[str, Any], path: Path | str) -> Place:
    fields: dict[str, Any] = {key: _tupled(value) for key, value in record.items() if key not in ("block", "digest")}
    try:
        return Place(**{**fields, "view": View(**fields["view"])})
    except (TypeError, KeyError) as error:
        message = f"{path}: the description of its blocks is damaged ({error})"
        raise WeightsError(message) from error


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _digest(site: nn.Module) -> str:
    """Return a digest of the names and shapes of the site's own tensors."""
    own = {name: tuple(t.shape) for name, t in site.state_dict().items() if STATION not in name.split(".")}
    return hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:16]


def _insert_document(items: list[Insertion]) -> dict[str, Any] | None:
    """Return the spec of the insertion, or None if a block was not built from a spec."""
    places = [item.module.place for item in items]
    if any(place.spec is None for place in places):
        return None
    return {"insert": [_node(place) for place in places]}


def _node(place: Place) -> dict[str, Any]:
    return {**(place.spec or {}), "at": place.site, "position": place.position, "identity": place.identity}


def _read(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from attnzoo.weights.header import read_header
    from attnzoo.weights.tensors import read_tensors

    header = read_header(path)
    tensors = read_tensors(path, header=header)
    try:
        about = json.loads(header.metadata.get(_KEY, "null"))
        found = about["kind"] if about else None
    except (ValueError, KeyError, TypeError):
        found = None
    if found != _KIND:
        message = f"{path}: no inserted blocks are described in it, a file from save_inserted was expected"
        raise SurgeryError(message)
    if about.get("format") != _FORMAT or not isinstance(about.get("blocks"), list):
        message = f"{path}: format {about.get('format')!r} of inserted blocks, {_FORMAT} was expected; upgrade attnzoo"
        raise WeightsError(message)
    return about, tensors


def _check_host(host: nn.Module, places: list[Place], records: list[dict[str, Any]], path: Path | str) -> None:
    """Refuse a host whose modules at the sites are missing or others."""
    modules = dict(host_modules(host))
    faults = []
    for place, record in zip(places, records, strict=True):
        module = modules.get(place.site)
        if module is None:
            faults.append(f"no module {place.site!r}{did_you_mean(place.site, modules)}")
        elif type(module).__name__ != place.site_class:
            faults.append(f"{place.site!r} is a {type(module).__name__}, {place.site_class} was expected")
        elif _digest(module) != record.get("digest"):
            faults.append(f"{place.site!r} has tensors of other names or shapes than when the file was saved")
    if faults:
        message = f"{path}: it is for another host than this {type(host).__name__}: {'; '.join(faults)}"
        raise SurgeryError(message)


def _check_same(present: list[Insertion], places: list[Place], path: Path | str) -> None:
    """Refuse a file whose blocks are others than those in the host."""
    there = {item.key: _kind(item.module) for item in present}
    wanted = {f"{place.site}/{place.name}": _kind(place) for place in places}
    faults = [f"the host has {key!r}, the file has not" for key in there if key not in wanted]
    faults += [f"the file has {key!r}, the host has not" for key in wanted if key not in there]
    faults += [
        f"{key!r} was {wanted[key]} in the file and is {kind} in the host"
        for key, kind in there.items()
        if key in wanted and wanted[key] != kind
    ]
    if faults:
        message = f"{path}: it is for another spec: {'; '.join(faults)}; remove the inserted blocks first"
        raise SurgeryError(message)


def _kind(what: Inserted | Place) -> str:
    place = what.place if isinstance(what, Inserted) else what
    gate = "with" if place.identity else "without"
    spec = "" if place.spec is None else f"{json.dumps(place.spec, sort_keys=True)} "
    return f"{spec}{place.position} it, {gate} identity gate"
