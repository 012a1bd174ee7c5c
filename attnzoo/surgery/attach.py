"""Insert blocks into a host. All are tried before the first is attached: an error leaves the host as it was."""

from collections.abc import Iterable, Sequence

from torch import nn

from attnzoo.errors import SurgeryError
from attnzoo.surgery.layout import Layouts
from attnzoo.surgery.plan import Order, Planned, Trials, plan
from attnzoo.surgery.probing import Probe, probe
from attnzoo.surgery.report import Report, Row
from attnzoo.surgery.sites import STATION, host_modules, select
from attnzoo.surgery.station import Place, Station

__all__ = ["insert"]

_WRAPPERS = {
    "DistributedDataParallel": "wrapped for DDP",
    "DataParallel": "wrapped in DataParallel",
    "FullyShardedDataParallel": "sharded",
    "FSDPModule": "sharded",
    "OptimizedModule": "compiled",
}


def insert(host: nn.Module, orders: Order | Sequence[Order], *, inputs: object = None) -> Report:
    """Insert blocks into ``host`` in the given order: of two at one place, the first listed is the first to run.

    Args:
        host: Any module. It keeps its keys, classes and values.
        orders: What to insert where.
        inputs: What to probe the host with, see :func:`attnzoo.surgery.probe`; guessed if left out.

    Raises:
        NameNotFound: An order chooses no module.
        SurgeryError: A block does not fit, or the host cannot be operated on. The host is unchanged.
    """
    _check_host(host)
    orders = [orders] if isinstance(orders, Order) else orders
    chosen = [(order, select(host, order.at)) for order in orders]
    _check_ready_modules(chosen)
    wanted = {name for _, names in chosen for name in names}
    seen = probe(host, [name for name, _ in host_modules(host) if name in wanted], inputs)
    layouts, trials = Layouts(host), Trials()
    planned = [plan(host, order, seen.sites[name], layouts, trials) for order, names in chosen for name in names]
    for item in planned:
        _check_free(item.module, item.inserted.place)
    _check_apart(planned)
    report = _report(host, seen, planned)
    for item in planned:
        _attach(item)
    return report


def _attach(item: Planned) -> None:
    if STATION not in item.module._modules:
        item.module.add_module(STATION, Station())
    item.module.get_submodule(STATION).add_module(item.inserted.place.name, item.inserted)
    item.inserted.link(item.module)


def _check_host(host: object) -> None:
    if not isinstance(host, nn.Module):
        message = f"host {type(host).__name__}: an nn.Module was expected"
        raise SurgeryError(message)
    for name, module in host.named_modules():
        bases = {base.__name__ for base in type(module).__mro__}
        state = next((text for wrapper, text in _WRAPPERS.items() if wrapper in bases), None)
        if "ScriptModule" in bases:
            state = "a TorchScript module"
        elif getattr(module, "_compiled_call_impl", None) is not None:
            state = "compiled"
        if state is not None:
            where = f" at {name!r}" if name else ""
            message = f"host {type(host).__name__}: it is {state}{where}; insert first, then wrap, shard or compile"
            raise SurgeryError(message)


def _check_ready_modules(chosen: Iterable[tuple[Order, list[str]]]) -> None:
    made: set[int] = set()
    for order, names in chosen:
        if isinstance(order.make, nn.Module):
            if len(names) > 1 or id(order.make) in made:
                message = (
                    f"block {type(order.make).__name__}: one module was given for {len(names)} sites "
                    f"({', '.join(names[:4])}{', …' if len(names) > 4 else ''}), a function that makes one for each "
                    "was expected"
                )
                raise SurgeryError(message)
            made.add(id(order.make))


def _check_free(module: nn.Module, place: Place) -> None:
    station = module._modules.get(STATION)
    if isinstance(station, Station):
        if place.name in station._modules:
            message = (
                f"site {place.site!r}: it already has an inserted block {place.name!r}; "
                "give name=… for a second one, or swap or remove the first"
            )
            raise SurgeryError(message)
    elif hasattr(module, STATION):
        message = f"site {place.site!r}: the module has an attribute {STATION!r} of its own; choose another module"
        raise SurgeryError(message)
    if place.position == "replace" and "forward" in module.__dict__:
        message = f"site {place.site!r}: its forward is already replaced; remove that first"
        raise SurgeryError(message)


def _check_apart(planned: Sequence[Planned]) -> None:
    taken: set[tuple[str, str]] = set()
    replaced: set[str] = set()
    for place in (item.inserted.place for item in planned):
        if (place.site, place.name) in taken or (place.position == "replace" and place.site in replaced):
            message = f"site {place.site!r}: two blocks {place.name!r} were to be inserted; give them names"
            raise SurgeryError(message)
        taken.add((place.site, place.name))
        replaced |= {place.site} if place.position == "replace" else set()


def _report(host: nn.Module, seen: Probe, planned: Sequence[Planned]) -> Report:
    return Report(
        host=type(host).__name__,
        inputs=str(seen.call),
        faked=seen.faked,
        host_parameters=sum(parameter.numel() for parameter in host.parameters()),
        host_flops=seen.flops,
        rows=tuple(_row(item) for item in planned),
    )


def _row(item: Planned) -> Row:
    place = item.inserted.place
    return Row(
        site=place.site,
        site_class=place.site_class,
        position=place.position,
        name=place.name,
        block=type(item.inserted.block).__name__,
        layout=place.view.site if place.view.site == place.view.block else f"{place.view.site}->{place.view.block}",
        shape=place.shape,
        channels=place.channels,
        parameters=sum(parameter.numel() for parameter in item.inserted.parameters()),
        flops=item.flops * item.calls,
        calls=item.calls,
        identity=place.identity,
    )
