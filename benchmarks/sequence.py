"""Every sequence block against a plain writing of its formula, and multi-head attention against torch's module.

``python benchmarks/sequence.py`` times each block, in evaluation (no gradients) and in training (forward and
backward), beside the plain PyTorch writing in ``plain_sequence.py`` and ``plain_efficient.py``, which has the block's
own parameters and is checked to give its numbers; where x-transformers is installed, its ``Attention`` with the same
weights (``peers_x_transformers.py``) is checked and timed too. A ratio above 1 says how many times faster attnzoo is.
Options:

    --torch             only multi-head attention against ``torch.nn.MultiheadAttention``, with and without masks
    --only sab,performer  some blocks
    --length 512        tokens

``common.py`` says how it is timed, ``sequence_inputs.py`` on what.
"""

import argparse
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plain_efficient
import plain_sequence
import torch
from common import (
    Ratio,
    append_record,
    environment,
    interleave,
    parser,
    plain_data,
    ratio,
    set_up,
    table,
    write_section,
)
from sequence_inputs import (
    BATCH,
    DIM,
    HEADS,
    WIDTH,
    by_heads,
    delta,
    gated,
    gated_delta,
    graph,
    pair,
    queries,
    recurrent,
    sentences,
    short_pair,
    tokens,
    with_global,
    with_noise,
)
from torch import Tensor, nn

import attnzoo

SAMPLE_MS = 20.0  # many calls of the small blocks in one sample
PLAIN = plain_sequence.PLAIN | plain_efficient.PLAIN
MODES = ("evaluation", "training")
Inputs = Callable[[int], list[Tensor]]


@dataclass(frozen=True)
class Case:
    """A block, its arguments, its inputs at a length, and the options of x-transformers' form of it, if it has one."""

    name: str
    arguments: Mapping[str, Any]
    inputs: Inputs
    xt: Mapping[str, Any] | None = field(default=None)


def cases(length: int) -> Iterable[Case]:
    """Return all cases, for sequences of this length."""
    width, wide = {"embed_dim": WIDTH}, {"embed_dim": WIDTH, "num_heads": HEADS}
    bare = {**wide, "bias": False}
    no_positions = {**wide, "rotary_base": None}
    yield Case("multi-head-attention", {**bare, "output_bias": False}, tokens, {})
    yield Case("vit-attention", wide, tokens)
    yield Case("grouped-query-attention", {**no_positions, "num_kv_heads": 2}, tokens, {"kv_heads": 2})
    yield Case("cached-attention", wide, tokens)
    yield Case("qk-norm-attention", no_positions, tokens, {"qk_rmsnorm": True})
    window = {"window_size": length // 8}
    yield Case("sliding-window-attention", {**no_positions, **window}, tokens, {"max_attend_past": length // 8 - 1})
    yield Case("sink-attention", {**no_positions, "bias": False}, tokens, {"head_learned_sink": True, "flash": False})
    yield Case("attention-sink", {"num_heads": HEADS}, by_heads)
    yield Case("rotary-attention", {**bare, "output_bias": False}, tokens, {})
    yield Case("alibi-attention", wide, tokens, {})
    yield Case("shaw-relative-attention", wide, tokens)
    yield Case("talking-heads", wide, tokens, {"pre_talking_heads": True, "post_talking_heads": True, "flash": False})
    yield Case("t5-attention", wide, tokens, {})
    yield Case("differential-attention", {**wide, "depth": 1}, tokens)
    latent = {"query_rank": 96, "kv_rank": 64, "head_dims": [32, 16, 32]}
    yield Case("multi-head-latent-attention", {**wide, **latent}, tokens)
    yield from (Case(name, {}, by_heads) for name in ("linear-attention",))
    yield Case("linear-attention causal", {"causal": True}, by_heads)
    yield Case("performer", {"head_dim": DIM}, by_heads)
    yield Case("gated-linear-attention", {}, gated)
    yield Case("delta-rule", {}, delta)
    yield Case("gated-delta-rule", {}, gated_delta)
    yield Case("linformer", {**wide, "max_len": length, "compressed_len": 64}, tokens)
    yield Case("nystrom-attention", {**wide, "num_landmarks": 32}, tokens)
    yield Case("reformer-attention", wide, tokens)
    yield Case("longformer-attention", {**wide, "window_size": length // 8}, with_global)
    yield Case("bigbird-attention", {**wide, "block_size": 32}, tokens)
    yield Case("aft-full", {**width, "max_len": length}, tokens)
    yield Case("aft-simple", width, tokens)
    yield Case("aft-local", {**width, "max_len": length, "window_size": 16}, tokens)
    yield Case("aft-conv", wide, tokens)
    yield Case("mab", wide, pair)
    yield from (Case(name, wide, tokens) for name in ("sab", "isab", "pma"))
    yield Case("perceiver-cross-attention", {**wide, "source_dim": WIDTH}, queries)
    yield Case("slot-attention", width, with_noise)
    yield from (Case(name, width, tokens) for name in ("gated-mil-attention", "han-attention"))
    yield from (Case(name, width, graph) for name in ("graph-attention", "graph-attention-v2"))
    yield Case("dot-score", {}, queries)
    yield Case("bilinear-score", {"query_dim": WIDTH}, queries)
    yield Case("additive-score", {"query_dim": 64}, short_pair)
    yield from (Case(name, {"query_dim": WIDTH}, queries) for name in ("soft-attention", "hard-attention"))
    yield Case("bahdanau-decoder", {"embed_dim": 64, "hidden_dim": 128}, recurrent)
    yield Case("luong-global", width, queries)
    yield from (Case(name, width, sentences) for name in ("luong-local-m", "luong-local-p"))
    yield Case("sinusoidal-positions", width, tokens)
    yield Case("learned-positions", {**width, "max_length": length}, tokens)
    yield Case("rotary-positions", {"rotary_dim": DIM}, lambda length: by_heads(length)[:1])


def main() -> None:
    """Measure and print."""
    options = arguments()
    warnings.filterwarnings("ignore")
    set_up(options)
    if options.report:
        records = [json.loads(line) for path in options.report for line in path.read_text().splitlines()]
    else:
        records = list(against_torch(options) if options.torch else against_plain(options))
    latest = list({(r["block"], r["peer"], r["mode"]): r for r in records}.values())
    write_section(options.markdown, "sequence against torch" if options.torch else "sequence", report(latest))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    options = parser(__doc__)
    options.add_argument("--torch", action="store_true", help="multi-head attention against torch's module alone")
    options.add_argument("--only", default="", help="names of blocks, separated by commas")
    options.add_argument("--length", type=int, default=512, help="tokens")
    options.add_argument("--modes", default=",".join(MODES))
    options.add_argument("--report", type=Path, nargs="+", help="measure nothing; print the table of such files")
    return options.parse_args()


def against_plain(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Yield a record of each block, peer and mode."""
    only = options.only.split(",") if options.only else None
    for case in cases(options.length):
        if only is not None and case.name.split(" ")[0] not in only:
            continue
        block = lively(attnzoo.create(case.name.split(" ")[0], **case.arguments))
        formula, inputs = PLAIN[case.name], case.inputs(options.length)
        writings = {"plain": formula, **plain_efficient.OTHERS.get(case.name, {})}
        rivals: dict[str, Callable[..., object]] = {
            peer: lambda *given, written=written, block=block: written(block, *given)
            for peer, written in writings.items()
        }
        rivals |= x_transformers(case, block)
        block.eval()
        with torch.no_grad():
            for rival in rivals.values():
                torch.testing.assert_close(first(rival(*inputs)), first(block(*inputs)), rtol=2e-3, atol=2e-4)
        yield from compare(case.name, block, rivals, inputs, options)


def against_torch(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Yield the records of multi-head attention against ``torch.nn.MultiheadAttention``."""
    for width in (256, 512):
        block = attnzoo.create("multi-head-attention", embed_dim=width, num_heads=8)
        theirs = nn.MultiheadAttention(width, 8, batch_first=True)
        for length in (128, 512, 1024):
            x = torch.randn(BATCH, length, width)
            mask = torch.arange(length) < torch.tensor([[length], [length - length // 4]])
            for masked in (False, True):
                name = f"L {length}, C {width}" + (", mask" if masked else "")
                given = {"mask_nm": mask} if masked else {}
                hidden = ~mask if masked else None
                yield from compare(
                    name,
                    lambda x, given=given, block=block: block(x, **given),
                    {
                        "torch": lambda x, hidden=hidden, theirs=theirs: theirs(
                            x, x, x, key_padding_mask=hidden, need_weights=False
                        )
                    },
                    [x],
                    options,
                    (block, theirs),
                )


def lively(block: nn.Module) -> nn.Module:
    """Move every parameter off its initial value: a weight that starts at zero would hide differences."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return block


def x_transformers(case: Case, block: nn.Module) -> dict[str, Callable[..., object]]:
    """Return the form of x-transformers with the block's weights, where it is installed and has one."""
    if case.xt is None or importlib.util.find_spec("x_transformers") is None:
        return {}
    from peers_x_transformers import attention

    return {"x-transformers": attention(block, case.xt)}


def compare(
    name: str,
    block: Callable[..., object],
    rivals: Mapping[str, Callable[..., object]],
    inputs: list[Tensor],
    options: argparse.Namespace,
    modules: Iterable[nn.Module] = (),
) -> Iterable[dict[str, Any]]:
    """Time the block and its peers in turns, in each mode."""
    for mode in options.modes.split(","):
        train = mode == "training"
        calls = {"ours": block, **rivals}
        for module in [*modules, *calls.values()]:
            if isinstance(module, nn.Module):
                module.train(train)
        given = [x.detach().requires_grad_(train and x.is_floating_point()) for x in inputs]
        steps = {key: step(call, given, train) for key, call in calls.items()}
        seconds = interleave(steps, clock=options.clock, rounds=options.rounds, sample_ms=SAMPLE_MS)
        for peer in rivals:
            value = ratio(seconds["ours"], seconds[peer])
            record = {"block": name, "peer": peer, "mode": mode, "environment": environment(options)}
            record |= plain_data(value)
            append_record(options.json, record)
            print(f"{name:34} {peer:15} {mode:10} {value}  {value.ours_ms:.2f} ms, {value.peer_ms:.2f} ms", flush=True)
            yield record


def step(call: Callable[..., object], inputs: list[Tensor], train: bool) -> Callable[[], object]:
    """Return what is timed: the call without gradients, or the call and the backward pass."""
    if train:
        return lambda: first(call(*inputs)).sum().backward()

    def evaluate() -> object:
        with torch.inference_mode():
            return call(*inputs)

    return evaluate


def first(output: Any) -> Tensor:
    """Return the first tensor of an output."""
    return output if isinstance(output, Tensor) else first(output[0])


def report(records: Iterable[dict[str, Any]]) -> str:
    """Return the table: a line for each block and peer."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        value = Ratio(*(record[key] for key in ("median", "low", "high", "ours_ms", "peer_ms")))
        cells.setdefault((record["block"], record["peer"]), {})[record["mode"]] = f"{value}, {value.ours_ms:.2f} ms"
    rows = [[*key, *(modes.get(mode, "") for mode in MODES)] for key, modes in cells.items()]
    return table(["block", "peer", *MODES], rows)


if __name__ == "__main__":
    main()
