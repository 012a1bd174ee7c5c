"""How weights/brightness-gate.safetensors was made: python train.py, with the plugin installed."""

from pathlib import Path

import torch

import attnzoo

torch.manual_seed(0)
block = attnzoo.create("acme/brightness-gate", channels=8)
optimizer = torch.optim.Adam(block.parameters(), lr=0.05)
for _ in range(300):
    x_nchw = torch.randn(16, 8, 8, 8)
    bright_n1hw = (x_nchw.mean(1, keepdim=True) > 0).float()
    loss = torch.nn.functional.binary_cross_entropy(block.attention(x_nchw)["pixel"], bright_n1hw)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
path = Path(__file__).parent / "attnzoo_acme" / "weights" / "brightness-gate.safetensors"
attnzoo.save(block, path, licence="MIT", source="train.py")
print(f"loss {loss.item():.3f}, wrote {path.name}")
