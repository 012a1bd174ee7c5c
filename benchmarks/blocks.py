"""Every image block against its best peer: time forward and forward + backward, in both memory layouts, and memory.

``python benchmarks/blocks.py`` compares each block with timm's, torchvision's or fightingcv-attention's form of it,
where these are installed and have it, and else with the plain PyTorch writing in ``plain.py``, with the block's own
parameters; a ratio above 1 says how many times faster attnzoo is than the fastest of its peers. Options:

    --quick             two sizes and five rounds instead of four and nine
    --only se,cbam      some blocks
    --memory            also the peak of new memory, in maps of the input's size
    --compiled          torch.compile of the block against the block itself, instead of the peers, and of a lone product
    --residual          with --compiled: each block inside x + block(x), as a network has it; without the
                        ReLU that often follows, which torch's compiler makes slow in training whatever the block
    --json FILE         append each figure to FILE as it is measured
    --report FILE ...   measure nothing; print the tables of such files (the last figure of a cell counts)

``common.py`` says how it is timed.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from case import Case, Size, channels
from cases import CASES as MAP_CASES
from cases_networks import CASES as NETWORK_CASES
from cases_networks import PLAIN as PLAIN_NETWORKS
from cases_structure import CASES as STRUCTURE_CASES
from cases_structure import PLAIN as PLAIN_STRUCTURE
from cases_tokens import CASES as TOKEN_CASES
from cases_tokens import PLAIN as PLAIN_TOKENS
from common import (
    LAYOUTS,
    SIZES,
    Ratio,
    append_record,
    environment,
    geometric_mean,
    interleave,
    parser,
    peak_bytes,
    plain_data,
    ratio,
    set_up,
    table,
    write_section,
)
from plain import PLAIN as PLAIN_MAPS
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import attnzoo
from attnzoo.compose import Residual

Step = Callable[[], object]
CASES = (*MAP_CASES, *STRUCTURE_CASES, *NETWORK_CASES, *TOKEN_CASES)
PLAIN = PLAIN_MAPS | PLAIN_STRUCTURE | PLAIN_NETWORKS | PLAIN_TOKENS
MODES = ("forward", "backward")  # backward: forward and backward


class Product(nn.Module):
    """A map times a weight a channel, all in all: what a compiled call costs by itself, below which no block can be."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight_c11 = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the product."""
        return x_nchw * self.weight_c11


FLOOR = Case("product-alone", channels(), module=Product)


def main() -> None:
    """Measure, or report."""
    options = arguments()
    if options.report:
        records = [json.loads(line) for path in options.report for line in path.read_text().splitlines()]
        write_section(options.markdown, section(records), report(latest(records)))
        return
    warnings.filterwarnings("ignore")
    set_up(options)
    only = options.only.split(",") if options.only else None
    records = []
    for case in (FLOOR, *CASES) if options.compiled else CASES:
        if only is None or case.name in only:
            for record in measure(case, options):
                record["environment"] = environment(options)
                append_record(options.json, record)
                records.append(record)
    write_section(options.markdown, section(records), report(records))


def section(records: list[dict[str, Any]]) -> str:
    """Return the mark of the figures' place in the document; figures of one kind have one."""
    places = {"eager residual": "compiled residuals", "eager": "compiled blocks"}
    found = {places.get(r.get("peer", ""), "blocks") for r in records}
    if len(found) != 1:
        message = f"figures of {len(found)} tables ({', '.join(sorted(found)) or 'none measured'}), expected one"
        raise SystemExit(f"{message}; name other blocks, or report each kind of its own")
    return found.pop()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="two sizes, five rounds")
    options.add_argument("--only", default="", help="names of blocks, separated by commas")
    options.add_argument("--sizes", default="", help="such as 8x64x56x56,8x512x28x28")
    options.add_argument("--layouts", default=",".join(LAYOUTS))
    options.add_argument("--modes", default=",".join(MODES))
    options.add_argument("--memory", action="store_true", help="also the peak of new memory")
    options.add_argument("--compiled", action="store_true", help="compiled against eager, without peers")
    options.add_argument("--residual", action="store_true", help="with --compiled, inside a residual sum")
    options.add_argument("--report", type=Path, nargs="+", help="files to report of")
    chosen = options.parse_args()
    if chosen.residual and not chosen.compiled:
        options.error("--residual compares compiled with eager; give --compiled too")
    if chosen.quick:
        chosen.rounds = 5
    return chosen


def sizes(options: argparse.Namespace) -> list[Size]:
    """Return the sizes of the maps to be measured."""
    if options.sizes:
        return [tuple(int(n) for n in size.split("x")) for size in options.sizes.split(",")]
    return [SIZES[0], SIZES[2]] if options.quick else list(SIZES)


def measure(case: Case, options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Yield a record of each size, layout and mode."""
    for size in sizes(options):
        if not case.admits(size[1], size[2]):
            continue
        arguments = case.arguments(size[1], size[2])
        block = lively(case.module(**arguments) if case.module else attnzoo.create(case.name, **arguments))
        if options.residual:
            if not keeps_shape(block, case, size):
                continue
            block = Residual(block)
        eager = "eager residual" if options.residual else "eager"
        rivals = {eager: block} if options.compiled else peers(case, block, size)
        if options.compiled:
            torch._dynamo.reset()
            ours: Any = torch.compile(block, dynamic=False)
        else:
            ours = block
        for layout in options.layouts.split(","):
            if layout == "nhwc" and not case.maps:
                continue
            for mode in options.modes.split(","):
                yield cell(case, {"ours": ours, **rivals}, size, layout, mode, options)


def keeps_shape(block: nn.Module, case: Case, size: Size) -> bool:
    """Return whether the block makes one map of a map, and of the same shape."""
    inputs = case.inputs(size)
    if not case.maps or len(inputs) != 1:
        return False
    with torch.inference_mode():
        output = block.eval()(*inputs)
    return isinstance(output, Tensor) and output.shape == inputs[0].shape


def lively(block: nn.Module) -> nn.Module:
    """Move every parameter off its initial value: a weight that starts at zero would hide differences."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return block


def peers(case: Case, block: nn.Module, size: Size) -> dict[str, Any]:
    """Return the forms of other libraries that can be built here; else the plain one."""
    built: dict[str, Any] = {}
    for name, build in case.peers.items():
        try:
            built[name] = build(size[1], size[2])
        except ImportError:
            continue
    return built or {"plain": Plain(PLAIN[case.name], block)}


class Plain:
    """A plain writing with the parameters of a block."""

    def __init__(self, function: Callable[..., Any], block: nn.Module) -> None:
        self.function, self.block = function, block

    def train(self, mode: bool) -> "Plain":
        """Set the mode of the block."""
        self.block.train(mode)
        return self

    def parameters(self) -> Iterable[Tensor]:
        """Return the parameters of the block."""
        return self.block.parameters()

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the plain form's output."""
        return self.function(self.block, *inputs)


def cell(
    case: Case, forms: Mapping[str, Any], size: Size, layout: str, mode: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one size, layout and mode and return the record of it."""
    record: dict[str, Any] = {"block": case.shown, "size": "x".join(map(str, size)), "layout": layout, "mode": mode}
    inputs = [in_layout(t, layout) if case.maps and t.dim() == 4 else t for t in case.inputs(size)]
    steps = steps_of(forms, inputs, mode, record)
    if len(steps) == 1 and not options.compiled and case.name in PLAIN:
        steps |= steps_of({"plain": Plain(PLAIN[case.name], forms["ours"])}, inputs, mode, record)
    if mode == "forward" and "plain" in steps:
        record["difference"] = difference(steps["ours"](), steps["plain"]())
    seconds = interleave(steps, clock=options.clock, rounds=options.rounds)
    ratios = {name: ratio(seconds["ours"], seconds[name]) for name in steps if name != "ours"}
    if ratios:
        best = min(ratios, key=lambda name: ratios[name].median)
        record |= {"peer": best, **plain_data(ratios[best])}
    if options.memory:
        unit = inputs[0].numel() * inputs[0].element_size()
        record["memory"] = {name: round(peak_bytes(step) / unit, 2) for name, step in steps.items()}
    show(record)
    return record


def in_layout(x_nchw: Tensor, layout: str) -> Tensor:
    """Return a map in a memory layout."""
    return x_nchw.contiguous(memory_format=LAYOUTS[layout])


def steps_of(forms: Mapping[str, Any], inputs: Sequence[Tensor], mode: str, record: dict[str, Any]) -> dict[str, Step]:
    """Return the steps of the forms that run; a peer that cannot run there is named in the record."""
    steps = {}
    for name, form in forms.items():
        try:
            step = (forward_step if mode == "forward" else backward_step)(form, inputs)
            step()
            steps[name] = step
        except RuntimeError as error:
            if name == "ours":
                raise
            record.setdefault("fails", {})[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return steps


def forward_step(form: Any, inputs: Sequence[Tensor]) -> Step:
    """Return a step that runs the form in inference."""
    form.train(False)

    def step() -> object:
        with torch.inference_mode():
            return form(*inputs)

    return step


def backward_step(form: Any, inputs: Sequence[Tensor]) -> Step:
    """Return a step that runs the form in training, forward and backward, to the inputs and all parameters."""
    form.train(True)
    inputs = [t.detach().requires_grad_(t.is_floating_point()) for t in inputs]
    grads = [torch.randn_like(y) for y in tree_leaves(form(*inputs))]
    tracked = [t for t in (*inputs, *form.parameters()) if t.requires_grad]

    def step() -> None:
        torch.autograd.backward(tree_leaves(form(*inputs)), grads)
        for tensor in tracked:  # at the end, so that the next step's memory does not begin with what this one frees
            tensor.grad = None

    return step


def difference(ours: Any, plain: Any) -> float:
    """Return the largest difference of two results over the largest number of the second."""
    pairs = zip(tree_leaves(ours), tree_leaves(plain), strict=True)
    return max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in pairs)


def show(record: Mapping[str, Any]) -> None:
    """Print a line as soon as it is known."""
    place = f"{record['block']:27} {record['size']:12} {record['layout']} {record['mode']:8}"
    if "median" not in record:
        print(f"{place} no peer runs here: {record.get('fails')}", flush=True)
        return
    spread = str(Ratio(*(record[k] for k in ("median", "low", "high", "ours_ms", "peer_ms"))))
    print(f"{place} {spread:18} {record['ours_ms']:9.3f} ms, {record['peer']} {record['peer_ms']:9.3f} ms", end="")
    print(f"  memory {record['memory']}" if "memory" in record else "", end="")
    far = record.get("difference", 0.0) > 1e-3
    print(f"  DIFFERS by {record['difference']:.1e}" if far else "", flush=True)


def latest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last record of each cell."""
    cells = {(r["block"], r["size"], r["layout"], r["mode"]): r for r in records}
    return list(cells.values())


def report(records: list[dict[str, Any]]) -> str:
    """Return the tables: every block in one line, geometric means, and the cells below 1."""
    measured = [r for r in records if "median" in r]
    columns = [(mode, layout) for mode in MODES for layout in LAYOUTS]
    names = list(dict.fromkeys(r["block"] for r in measured))
    rows = [block_row(name, [r for r in measured if r["block"] == name], columns) for name in names]
    libraries = [r for r in measured if r["peer"] not in ("plain", "eager", "eager residual")]
    means = [mean_row("geometric mean, library peers", libraries, columns)] if libraries else []
    means.append(mean_row("geometric mean, all", [r for r in measured if r["block"] != FLOOR.shown], columns))
    head = ["block", "peer", *(f"{'forward' if m == 'forward' else 'fwd + bwd'} {at}" for m, at in columns), "memory"]
    lines = sorted({r["environment"] for r in measured if "environment" in r})
    below = [r for r in measured if round(r["median"], 2) < 1]
    text = [*(f"{line}." for line in lines), "", table(head, [*rows, *means])]
    if below:
        text += ["", "Below 1:", "", table(["block", "size", "layout", "mode", "ratio", "ms"], map(below_row, below))]
    return "\n".join(text)


def mean_row(title: str, records: list[dict[str, Any]], columns: list[tuple[str, str]]) -> list[str]:
    """Return the line of the geometric means over all cells of a column."""
    cells = []
    for mode, layout in columns:
        values = [r["median"] for r in records if (r["mode"], r["layout"]) == (mode, layout)]
        cells.append(f"{geometric_mean(values):.2f}" if values else "")
    return [title, "", *cells, ""]


def block_row(name: str, records: list[dict[str, Any]], columns: list[tuple[str, str]]) -> list[str]:
    """Return a block's line: in each column the geometric mean over the sizes and, in brackets, the smallest."""
    cells = []
    for mode, layout in columns:
        values = [r["median"] for r in records if (r["mode"], r["layout"]) == (mode, layout)]
        cells.append(f"{geometric_mean(values):.2f} ({min(values):.2f})" if values else "")
    memory = []
    for mode in MODES:
        pairs = [(r["memory"][r["peer"]], r["memory"]["ours"]) for r in records if r["mode"] == mode and "memory" in r]
        if pairs:
            memory.append(" → ".join(f"{max(values):.1f}" for values in zip(*pairs, strict=True)))
    return [name, ", ".join(sorted({r["peer"] for r in records})), *cells, "; ".join(memory)]


def below_row(record: Mapping[str, Any]) -> list[str]:
    """Return the line of a cell that is slower than its peer."""
    spread = f"{record['median']:.2f} ({record['low']:.2f}-{record['high']:.2f})"
    mode = "forward" if record["mode"] == "forward" else "fwd + bwd"
    return [record["block"], record["size"], record["layout"], mode, spread, f"{record['ours_ms']:.2f}"]


if __name__ == "__main__":
    main()
