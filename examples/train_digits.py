"""Train a generated VAN-B0 on scikit-learn's handwritten digits (1,797 real images, 8 x 8), on the CPU.

    python examples/train_digits.py --steps 60

The module is compiled from the spec that archc ships, with ten classes and one input channel.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import archc


def compiled(name: str, folder: Path) -> ModuleType:
    """Compile a shipped spec into `folder` and import what was written."""
    path = folder / f"{name}.py"
    path.write_text(archc.compile(name))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digits(size: int) -> tuple[Tensor, Tensor]:
    """All images, [1797, 1, size, size] with mean 0 and deviation 1, and their classes."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None]
    images = F.interpolate(images, (size, size), mode="bilinear")
    return (images - images.mean()) / images.std(), torch.tensor(data.target)


def train(steps: int, batch: int = 32, size: int = 32, seed: int = 0) -> list[float]:
    """The loss of every step."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        net: nn.Module = compiled("van_b0", Path(folder)).van_b0(num_classes=10, in_chans=1)
    images, classes = digits(size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    losses: list[float] = []
    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("train", total=steps, loss=float("nan"))
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch,))
            loss = F.cross_entropy(net(images[chosen]), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            progress.update(task, advance=1, loss=losses[-1])
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    losses = train(arguments.steps, arguments.batch)
    tail = max(1, len(losses) // 6)
    print(f"loss {sum(losses[:tail]) / tail:.3f} -> {sum(losses[-tail:]) / tail:.3f} over {len(losses)} steps")


if __name__ == "__main__":
    main()
