"""Batches taken apart by domain, and models run with other parameters: what methods for several domains share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.ops.sampling import sample_permutation
from regathlon_core.task import Batch


def take(batch: Batch, chosen: Tensor) -> Batch:
    """Return some samples of a batch whose inputs are a tensor.

    Args:
        batch: Samples.
        chosen: Their places in the batch, int64 [n].

    Raises:
        UserError: The inputs are no tensor [B, ...].
    """
    if not isinstance(batch.inputs, Tensor):
        raise UserError(f"A batch of {type(batch.inputs).__name__} cannot be taken apart by samples.")

    def part(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[chosen]

    mixed = batch.mixed
    if mixed is not None:
        mixed = type(mixed)(mixed.targets[chosen], mixed.weight[chosen])
    return batch.replace(
        inputs=batch.inputs[chosen],
        targets=batch.targets[chosen],
        index=part(batch.index),
        domain=part(batch.domain),
        mixed=mixed,
    )


def places_by_domain(batch: Batch) -> dict[int, Tensor]:
    """Return where in a batch the samples of each domain are, int64; a batch without domains is one domain, 0."""
    if batch.domain is None:
        return {0: torch.arange(len(batch.targets), device=batch.targets.device)}
    found = sorted(set(batch.domain.tolist()))
    return {number: torch.nonzero(batch.domain == number).flatten() for number in found}


def by_domain(outputs: Tensor, batch: Batch) -> dict[int, tuple[Tensor, Batch]]:
    """Return each domain's outputs and samples.

    Args:
        outputs: The model's outputs, [B, ...].
        batch: What they are for.
    """
    return {
        number: (outputs[chosen], take(batch, chosen)) for number, chosen in places_by_domain(batch).items()
    }


def split_by_domain(batch: Batch, generator: torch.Generator) -> tuple[Batch, Batch] | None:
    """Split a batch at random into meta-train and meta-test samples.

    One domain, drawn at random, is held out; where there is one only, a random half of the samples.

    Returns:
        Both parts; None where one of them would have fewer than two samples, which batch-norm may refuse.
    """
    places = list(places_by_domain(batch).values())
    device = batch.targets.device
    if len(places) > 1:
        held_out = int(torch.randint(len(places), (), generator=generator, device=generator.device))
        test = places.pop(held_out)
        train = torch.cat(places)
    else:
        test, train = sample_permutation(len(batch.targets), generator=generator, device=device).tensor_split(
            2
        )
    if min(len(train), len(test)) < 2:
        return None
    return take(batch, train.sort().values), take(batch, test.sort().values)


class Borrowing(nn.Module):
    """A model that runs with given parameters in place of its own; its buffers, hooks and flags stay its own.

    Args:
        model: The model.
        parameters: Tensors by parameter name; gradients reach them, not the model's.
    """

    def __init__(self, model: nn.Module, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.model, self.parameters_by_name = model, parameters

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Run the model."""
        return torch.func.functional_call(self.model, self.parameters_by_name, inputs, keywords)


def virtual_step(loss: Tensor, model: nn.Module, lr: float, *, second_order: bool) -> dict[str, Tensor]:
    """Return the parameters after a plain gradient step that the model itself does not make.

    Args:
        loss: What to step on; its graph is kept.
        model: Whose trainable parameters.
        lr: Size of the step.
        second_order: Whether the step stays differentiable, through the gradient too.
    """
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    grads = torch.autograd.grad(
        loss, list(own.values()), create_graph=second_order, retain_graph=True, allow_unused=True
    )
    return {
        name: parameter if grad is None else parameter - lr * grad
        for (name, parameter), grad in zip(own.items(), grads, strict=True)
    }
