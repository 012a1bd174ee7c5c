"""Train the demo's host on Fashion-MNIST, once without attention, once wider, and once with each attention block.

    apt-get install dataset-fashion-mnist        # MIT licence, Zalando SE
    python docs/recipes/train_fashion_mnist.py --out runs --seeds 3 --epochs 3

Every arm is trained from the same seeds with the same schedule: SGD with Nesterov momentum 0.9, weight decay 5e-4,
batches of 128, one-cycle learning rate up to 0.1, random horizontal flips. It writes, for each arm and seed, the host's
and the block's weights, and `results.json` with the accuracy over the 10 000 test images; runs that are there already
are skipped.
"""

import argparse
import gzip
import json
import struct
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import attnzoo
from attnzoo.demo.host import SmallCNN

CHANNELS = 32
ARMS: dict[str, dict[str, object] | None] = {
    "none": None,
    "wider": None,
    "se": {"channels": CHANNELS, "reduction": 8},
    "eca": {"channels": CHANNELS},
    "cbam": {"channels": CHANNELS, "reduction": 8},
    "simam": {},
    "global-context": {"channels": CHANNELS, "reduction": 8},
    "non-local": {"channels": CHANNELS},
}
# The width at which the plain host has at least as many parameters as the host with the largest block.
WIDER = 17


def read_images(path: Path) -> Tensor:
    """Return (N, 1, 28, 28) float images in [0, 1] from an IDX file."""
    with gzip.open(path) as file:
        _, count, height, width = struct.unpack(">IIII", file.read(16))
        data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    return data.view(count, 1, height, width).float() / 255


def read_labels(path: Path) -> Tensor:
    """Return (N,) labels from an IDX file."""
    with gzip.open(path) as file:
        file.read(8)
        return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).long()


def build(arm: str, seed: int) -> SmallCNN:
    torch.manual_seed(seed)
    host = SmallCNN(WIDER if arm == "wider" else 16)
    arguments = ARMS[arm]
    if arguments is not None:
        host.site = attnzoo.create(arm, **arguments)
    return host


def train(host: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int, batch: int = 128) -> None:
    steps = len(images) // batch
    optimiser = torch.optim.SGD(host.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    host.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch]
            flip = torch.rand(batch, generator=generator) < 0.5
            x = images[index]
            x = torch.where(flip[:, None, None, None], x.flip(3), x)
            optimiser.zero_grad()
            nn.functional.cross_entropy(host(x), labels[index]).backward()
            optimiser.step()
            schedule.step()


@torch.no_grad()
def accuracy(host: nn.Module, images: Tensor, labels: Tensor) -> float:
    host.eval()
    hits = sum((host(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(images)


def run(arm: str, seed: int, data: dict[str, Tensor], epochs: int, out: Path) -> dict[str, object]:
    host = build(arm, seed)
    start = time.process_time()
    train(host, data["train_images"], data["train_labels"], epochs, seed)
    seconds = time.process_time() - start
    result = accuracy(host, data["test_images"], data["test_labels"])
    block = host.site
    if ARMS[arm] is not None:
        attnzoo.save(block, out / f"{arm}-{seed}-block.safetensors", licence="Apache-2.0", source="docs/recipes")
        host.site = nn.Identity()
    save_file(host.state_dict(), out / f"{arm}-{seed}-host.safetensors")
    count = sum(p.numel() for m in (host, block) for p in m.parameters())
    return {"arm": arm, "seed": seed, "epochs": epochs, "accuracy": result, "parameters": count, "cpu_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = {
        "train_images": read_images(options.data / "train-images-idx3-ubyte.gz"),
        "train_labels": read_labels(options.data / "train-labels-idx1-ubyte.gz"),
        "test_images": read_images(options.data / "t10k-images-idx3-ubyte.gz"),
        "test_labels": read_labels(options.data / "t10k-labels-idx1-ubyte.gz"),
    }
    path = options.out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else []
    for seed in range(options.seeds):
        for arm in options.arms:
            if any(r["arm"] == arm and r["seed"] == seed for r in results):
                continue
            results.append(run(arm, seed, data, options.epochs, options.out))
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(results[-1], flush=True)


if __name__ == "__main__":
    main()
