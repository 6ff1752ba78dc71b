"""On a toy whose dominant feature deceives in the domain that was never seen, dropping by GSNR helps more than by chance."""

import torch
from torch import Tensor, nn

from regathlon_core import DropBlock, GSNRDrop
from regathlon_core.rng import global_stream, stream
from regathlon_core.task import Batch
from regathlon_core.testing import ToyImages

CLASSES, SIDE, SEEDS = 4, 4, 5


def samples(count: int, colour_agrees: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return evidence for classes by colour and by shape, and labels.

    Shape tells the class of 80 % of all samples, colour that of as many as is said; else they show a random class.
    """
    labels = torch.randint(CLASSES, (count,), generator=generator)

    def evidence(agrees: float) -> Tensor:
        other = torch.randint(CLASSES, (count,), generator=generator)
        right = torch.rand(count, generator=generator) < agrees
        shown = nn.functional.one_hot(torch.where(right, labels, other), CLASSES).float()
        strength = 0.5 + torch.rand(count, 1, SIDE, SIDE, generator=generator)
        return shown[:, :, None, None] * strength

    return torch.stack([evidence(colour_agrees), evidence(0.8)], dim=1), labels


class Weighing(nn.Module):
    """Adds up the evidence of both kinds; ``strength``, [B, 2, H, W], says how much there is, and is where features drop."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.ReLU()
        self.trust = nn.Parameter(torch.full((2,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        amount = self.strength(x.sum(dim=2))
        direction = x / x.sum(dim=2, keepdim=True)
        return torch.einsum("bshw,bskhw,s->bk", amount, direction, self.trust) / SIDE**2


def unseen_accuracy(regularizer, seed: int) -> tuple[float, float]:
    """Train on two domains; return the accuracy where colour says nothing, and the share of units that was dropped."""
    generator = stream(seed, "data")
    parts = [samples(400, agrees, generator) for agrees in (0.98, 0.94)]
    inputs, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    unseen, truth = samples(1000, 0.0, generator)
    task, shares = ToyImages(), []
    with global_stream(seed, "init"):
        model = Weighing().train()
    regularizer.attach(model)
    model.strength.register_forward_hook(
        lambda module, into, out: shares.append(float((out == 0).float().mean()))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for step in range(150):
        index = torch.randint(len(labels), (64,), generator=generator)
        batch = Batch(inputs[index], labels[index], index=index)
        shares.clear()
        optimizer.zero_grad()
        batch = regularizer.transform(model, batch, task, stream(seed, "step", step))
        for loss in regularizer.losses(model, batch, task, stream(seed, "step", step)):
            loss.backward()
        optimizer.step()
        regularizer.after_step((step + 1) / 150)
    dropped = shares[-1]
    regularizer.detach()
    with torch.no_grad():
        return float((model.eval()(unseen).argmax(1) == truth).float().mean()), dropped


def test_it_beats_dropblock_at_the_same_rate_on_every_seed() -> None:
    settings = {"p": 0.5, "block_size": 1, "where": ("strength",)}
    guided = [unseen_accuracy(GSNRDrop(**settings), seed) for seed in range(SEEDS)]
    random = [unseen_accuracy(DropBlock(schedule="constant", **settings), seed) for seed in range(SEEDS)]
    # Five of five: by chance in one of 32 cases.
    assert all(one > other for (one, _), (other, _) in zip(guided, random, strict=True))
    assert all(abs(share - 0.5) < 0.2 for _, share in guided + random)
