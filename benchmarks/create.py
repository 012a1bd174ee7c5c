"""``attnzoo.create`` against the constructor alone.

``python benchmarks/create.py`` prints, for a few blocks, the microseconds of both and their ratio; what is asked for is
at most 1.3 for ``create("se", channels=64)``, once everything is imported. ``common.py`` says how it is timed.
"""

from importlib import import_module

from common import append_record, environment, interleave, parser, plain_data, ratio, set_up, table, write_section

import attnzoo

BLOCKS = (("se", {"channels": 64}), ("se", {"channels": 2048}), ("cbam", {"channels": 64}), ("simam", {}))
BLOCKS += (("non-local", {"channels": 64}), ("multi-head-attention", {"embed_dim": 64, "num_heads": 4}))
CALLS = 40  # a sample is so many calls


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    options.rounds = max(options.rounds, 25)
    set_up(options)
    cards = {card.name: card for card in attnzoo.list_blocks()}
    rows = []
    for name, arguments in BLOCKS:
        cls = getattr(import_module(cards[name].module), cards[name].class_name)
        steps = {
            "create": lambda name=name, arguments=arguments: [attnzoo.create(name, **arguments) for _ in range(CALLS)],
            "bare": lambda cls=cls, arguments=arguments: [cls(**arguments) for _ in range(CALLS)],
        }
        seconds = interleave(steps, clock=options.clock, rounds=options.rounds)
        result = ratio(seconds["bare"], seconds["create"])  # create / bare
        call = f"{name} {' '.join(f'{k}={v}' for k, v in arguments.items())}"
        micro = [f"{ms * 1e3 / CALLS:.0f}" for ms in (result.ours_ms, result.peer_ms)]
        rows.append([call.strip(), *micro, str(result)])
        append_record(options.json, {"call": call, **plain_data(result)})
    head = ["block", "constructor, µs", "`attnzoo.create`, µs", "create / constructor"]
    write_section(options.markdown, "create", f"{environment(options)}.\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
