"""The command line's start: time of ``attnzoo list`` and ``attnzoo --help``, and that torch is not imported.

``python benchmarks/startup.py`` runs each command in fresh processes, in turns with ``python -c pass``, and prints wall
time and CPU time (user and system): on a busy machine the wall time says little, and the CPU time is what an idle core
would take. What is asked for is less than 0.30 s. ``discovery.py`` does the same with 200 plugins.
"""

import os
import statistics
import subprocess
import sys
import time

from common import append_record, parser, processor, table, write_section

RUN = "import sys; from attnzoo.cli import main; main({arguments!r}, standalone_mode=False); "
RUN += "sys.exit('torch' in sys.modules)"
COMMANDS = {
    "`attnzoo list`": RUN.format(arguments=["list"]),
    "`attnzoo list --json`": RUN.format(arguments=["list", "--json"]),
    "`attnzoo --help`": RUN.format(arguments=["--help"]),
    "`python -c pass`": "pass",
}


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for name in COMMANDS:
        once(COMMANDS[name])
    for turn in range(options.rounds):
        for name in COMMANDS if turn % 2 == 0 else reversed(COMMANDS):
            times[name].append(once(COMMANDS[name]))
    rows = []
    for name, taken in times.items():
        wall, cpu = ([value[i] for value in taken] for i in (0, 1))
        row = [statistics.median(wall), min(wall), statistics.median(cpu), min(cpu)]
        rows.append([name, *(f"{value:.3f}" for value in row)])
        append_record(options.json, {"command": name, "wall_s": row[0], "cpu_s": row[2], "least_cpu_s": row[3]})
    head = ["command", "wall, s", "least", "CPU, s", "least"]
    about = (
        f"{processor()}; Python {sys.version.split()[0]}; {options.rounds} fresh processes each, torch not imported."
    )
    write_section(options.markdown, "startup", f"{about}\n\n{table(head, rows)}")


def once(program: str) -> tuple[float, float]:
    """Run a program and return wall and CPU seconds; one that imports torch is an error."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        message = f"{program!r} ended with {done.returncode}, expected 0; 1 says that torch was imported"
        raise SystemExit(message)
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, cpu


if __name__ == "__main__":
    main()
