"""Publish the runs of `train_fashion_mnist.py`: copy seed 0's weights into place, write registry entries and the table.

python docs/recipes/publish_fashion_mnist.py --runs runs
"""

import argparse
import hashlib
import json
import shutil
import statistics
from pathlib import Path

import torch
from safetensors.torch import save_file
from train_fashion_mnist import ARMS, read_images, read_labels

from attnzoo.weights.store import read_description
from attnzoo.yaml_reader import write_yaml

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "attnzoo" / "demo" / "data"
PLUGIN = ROOT / "plugins" / "attnzoo-vision" / "attnzoo_vision"
BLOCKS = [arm for arm, arguments in ARMS.items() if arguments is not None]
PER_CLASS = 6


def publish_images(data: Path) -> None:
    images = read_images(data / "t10k-images-idx3-ubyte.gz")
    labels = read_labels(data / "t10k-labels-idx1-ubyte.gz")
    # The first six test images of each class, in the order of the data set: nothing is picked by hand.
    index = torch.cat([(labels == c).nonzero()[:PER_CLASS, 0] for c in range(10)]).sort().values
    tensors = {"images": (images[index, 0] * 255).round().to(torch.uint8), "labels": labels[index].to(torch.int64)}
    about = {
        "source": "the Fashion-MNIST test images, github.com/zalandoresearch/fashion-mnist",
        "licence": "MIT, copyright 2017 Zalando SE",
        "selection": "the first six test images of each class",
    }
    save_file(tensors, DEMO / "fashion-mnist-60.safetensors", about)


def publish_weights(runs: Path, results: list[dict]) -> None:
    target = PLUGIN / "weights"
    target.mkdir(exist_ok=True)
    entries = []
    for arm in ["none", *BLOCKS]:
        shutil.copyfile(runs / f"{arm}-0-host.safetensors", DEMO / f"host-{arm}.safetensors")
    for arm in BLOCKS:
        path = target / f"{arm}-fashion-mnist.safetensors"
        shutil.copyfile(runs / f"{arm}-0-block.safetensors", path)
        spec = read_description(path)["spec"]
        mine = [r for r in results if r["arm"] == arm]
        entries.append(
            {
                "name": f"{arm}/fashion-mnist",
                "block": spec["block"],
                "args": spec.get("args", {}),
                "url": f"weights/{path.name}",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "size": path.stat().st_size,
                "licence": "Apache-2.0",
                "origin": "trained in the demo's host by docs/recipes/train_fashion_mnist.py, seed 0",
                "metrics": {"host_accuracy": next(r["accuracy"] for r in mine if r["seed"] == 0)},
                "verified": "downloaded",
            }
        )
    (PLUGIN / "registry.yaml").write_text(write_yaml({"weights": entries}))


def publish_table(results: list[dict]) -> None:
    rows = []
    for arm in ARMS:
        mine = [100 * r["accuracy"] for r in results if r["arm"] == arm]
        parameters = next(r["parameters"] for r in results if r["arm"] == arm)
        values = ", ".join(f"{a:.2f}" for a in mine)
        rows.append(
            f"| {arm} | {parameters:,} | {statistics.mean(mine):.2f} | {max(mine) - min(mine):.2f} | {values} |"
        )
    seeds = len({r["seed"] for r in results})
    epochs = results[0]["epochs"]
    table = "\n".join(rows)
    (ROOT / "docs" / "recipes" / "fashion-mnist-table.md").write_text(
        f"Accuracy in per cent over all 10 000 test images, {epochs} epochs, {seeds} seeds.\n\n"
        f"| arm | parameters | mean | spread (max - min) | each seed |\n|---|---:|---:|---:|---|\n{table}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    options = parser.parse_args()
    results = json.loads((options.runs / "results.json").read_text())
    publish_images(options.data)
    publish_weights(options.runs, results)
    publish_table(results)


if __name__ == "__main__":
    main()
