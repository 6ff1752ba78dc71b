"""A training step with GSNRDrop beside the code that the paper's supplement prints, on ResNet-18 in one process on one thread.

The reference is Listings 1 and 2 as they are written: a forward pass, one ``autograd.grad`` for each block, a forward
pass with masks from a full sort, a backward pass. Listing 1 keeps no graph between its gradients and fails on the second
one, so ``retain_graph=True`` is added. Both drop at the same blocks, with p, block size and all else the same.

python benchmarks/speed/gsnr.py --assert-ratio 0.78 --json gsnr.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from timing import compare, report
from torch import Tensor, nn

from regathlon_core import Batch, GSNRDrop
from regathlon_core.features import FeaturePoint
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages

SETTINGS = ((96, 32), (224, 8))
PLACES = {
    "groups": ("layer1", "layer2", "layer3", "layer4"),
    "blocks": tuple(f"layer{group}.{block}" for group in (1, 2, 3, 4) for block in (0, 1)),
    "last": ("layer3.0", "layer3.1", "layer4.0", "layer4.1"),
}


def drop_block2d_gsnr(x: Tensor, grads: Tensor, p: float, p_gsnr: float, block_size: int) -> Tensor:
    """Listing 2."""
    count, channels, height, width = x.shape
    block_size = min(block_size, width, height)
    side = height - block_size + 1
    flat = grads.reshape(count, -1)
    gsnr = (flat.mean(dim=0) ** 2 / (flat.var(dim=0) + 1e-7)).reshape(grads.shape[1:])[None]
    gamma = (p * height * width) / (block_size**2 * (height - block_size + 1) * (width - block_size + 1))
    index = int(channels * side * (width - block_size + 1) * gamma * block_size**2)
    threshold = torch.sort(gsnr.flatten(), descending=True)[0][index]
    window = slice(block_size - 1, block_size - 1 + side)
    noise = (gsnr[:, :, window, window] >= threshold) * 1.0
    noise = noise * torch.empty((1, channels, side, side), dtype=x.dtype, device=x.device).bernoulli_(p_gsnr)
    noise = F.pad(noise, [block_size // 2] * 4, value=0)
    noise = 1 - F.max_pool2d(noise, stride=(1, 1), kernel_size=block_size, padding=block_size // 2)
    return x * noise * (noise.numel() / (1e-6 + noise.sum()))


class Listed(nn.Module):
    """A model as Listing 1 has it: returns its blocks' outputs too, and applies Listing 2 to them where there are gradients."""

    def __init__(
        self, model: nn.Module, places: Sequence[str], p: float, p_gsnr: float, block_size: int
    ) -> None:
        super().__init__()
        self.model = model
        self.blocks: list[Tensor] = []
        self.grads: Sequence[Tensor] | None = None

        def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            if self.grads is not None:
                output = drop_block2d_gsnr(output, self.grads[len(self.blocks)], p, p_gsnr, block_size)
            self.blocks.append(output)
            return output

        for place in places:
            model.get_submodule(place).register_forward_hook(hook)

    def forward(self, images: Tensor, grads: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Return logits and the blocks' outputs."""
        self.blocks, self.grads = [], grads
        return self.model(images), self.blocks


def listing_step(
    model: nn.Module, batch: Batch, places: Sequence[str], options: argparse.Namespace
) -> Callable[[], None]:
    """Return a training step as Listing 1 has it."""
    listed = Listed(model, places, options.p, options.p_gsnr, options.block_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        logits, blocks = listed(batch.inputs, None)
        loss = F.cross_entropy(logits, batch.targets)
        grads = [torch.autograd.grad(loss, block, retain_graph=True)[0] for block in blocks]
        logits, _ = listed(batch.inputs, grads)
        loss = F.cross_entropy(logits, batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class Classification(ToyImages):
    """A task whose feature points are these places of torchvision's ResNet."""

    places: Sequence[str] = ()

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the places."""
        return [FeaturePoint(place, channels=0) for place in self.places]


def our_step(
    model: nn.Module, batch: Batch, places: Sequence[str], options: argparse.Namespace
) -> Callable[[], None]:
    """Return a training step as the engine makes it."""
    task = Classification()
    task.places = places
    regularizer = GSNRDrop(p=options.p, p_gsnr=options.p_gsnr, block_size=options.block_size)
    regularizer.attach(model, task)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    generator = stream(0, "regularizer")

    def step() -> None:
        optimizer.zero_grad()
        changed = regularizer.transform(model, batch, task, generator)
        for loss in regularizer.losses(model, changed, task, generator):
            loss.backward()
        optimizer.step()
        regularizer.after_step(0.5)

    return step


def plain_step(model: nn.Module, batch: Batch) -> Callable[[], None]:
    """Return a training step without a regularizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()

    return step


def main() -> int:
    """Run the comparison; return 1 where ours is slower than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--p", type=float, default=0.1, help="share of units to drop (0.1)")
    parser.add_argument("--p-gsnr", type=float, default=1.0, help="probability that a block is dropped (1)")
    parser.add_argument("--block-size", type=int, default=3, help="odd, as Listing 2 asks (3)")
    parser.add_argument("--places", choices=PLACES, default="groups", help="where to drop (groups)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--assert-ratio", type=float, help="fail where ours/listing is above this")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    places = PLACES[options.places]
    results = {}
    for side, count in SETTINGS:
        images = torch.randn(count, 3, side, side, generator=stream(0, "images"))
        batch = Batch(images, torch.arange(count) % 7, index=torch.arange(count))
        models = [torchvision.models.resnet18(num_classes=7).train() for _ in range(3)]
        results[f"ResNet-18, {side} px, batch {count}, {options.places}"] = compare(
            {
                "listings 1 and 2": listing_step(models[0], batch, places, options),
                "ours": our_step(models[1], batch, places, options),
                "plain (for scale)": plain_step(models[2], batch),
            },
            options.rounds,
        )
    return report(results, json_path=options.json, subject="ours", assert_ratio=options.assert_ratio)


if __name__ == "__main__":
    sys.exit(main())
