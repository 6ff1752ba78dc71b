"""ShakeDrop: factors forward and backward, their gate, their expectation."""

import importlib.resources
import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import ShakeDrop, ShakeDropSettings, UserError
from regathlon_core.functional import shakedrop
from regathlon_core.regularizers.shakedrop.functional import sample_shakedrop, shake
from regathlon_core.rng import stream
from regathlon_core.testing import ToyResidual, ToyTokens, conformance_checks

TASKS = [ToyResidual().settings, ToyTokens().settings]


@pytest.mark.parametrize("check", conformance_checks(ShakeDropSettings(), TASKS), ids=str)
def test_conforms(check: Any) -> None:
    check()


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 3, 4, 5)])
def test_values_and_gradients_have_factors_of_their_own(shape: tuple[int, ...]) -> None:
    p = 0.6
    branch = torch.randn(shape, generator=stream(0, "x"), dtype=torch.float64, requires_grad=True)
    gates = set()
    for seed in range(12):
        out = shakedrop(branch, p, generator=stream(seed, "act"))
        upstream = torch.randn(shape, generator=stream(0, "up"), dtype=torch.float64)
        (grad,) = torch.autograd.grad(out, branch, upstream)

        generator = stream(seed, "act")
        gate = 0.0 if float(torch.rand((), generator=generator)) < p else 1.0
        gates.add(gate)
        alphas, betas = torch.rand(2, 6, generator=generator).double()
        for sample, (a, beta) in enumerate(zip(alphas, betas, strict=True)):
            alpha = 2 * a - 1
            torch.testing.assert_close(
                out[sample], (gate + alpha - gate * alpha) / (1 - p) * branch[sample], rtol=1e-6, atol=0
            )
            torch.testing.assert_close(
                grad[sample], (gate + beta - gate * beta) / (1 - p) * upstream[sample], rtol=1e-6, atol=0
            )
    assert gates == {0.0, 1.0}


def test_gate_and_factors_have_their_laws() -> None:
    generator, p, draws = stream(0, "laws"), 0.3, 4000
    alphas, betas = [], []
    for _ in range(draws):
        forward, backward = sample_shakedrop(1, p, generator=generator)
        if float(forward) != 1.0 or float(backward) != 1.0:
            alphas.append(float(forward))
            betas.append(float(backward))
    shaken = len(alphas)
    assert abs(shaken - draws * p) <= 5 * math.sqrt(draws * p * (1 - p))
    assert all(-1 <= alpha <= 1 for alpha in alphas)
    assert all(0 <= beta <= 1 for beta in betas)
    alpha, beta = torch.tensor(alphas), torch.tensor(betas)
    assert abs(float(alpha.mean())) <= 5 * math.sqrt(1 / 3 / shaken)
    assert abs(float(beta.mean()) - 0.5) <= 5 * math.sqrt(1 / 12 / shaken)
    assert abs(float(torch.corrcoef(torch.stack([alpha, beta]))[0, 1])) <= 5 / math.sqrt(shaken)
    # Uniform: the variances, whose estimates vary by sqrt((kurtosis - 1) / n), 1.8 for a uniform law.
    for values, variance in ((alpha, 1 / 3), (beta, 1 / 12)):
        assert abs(float(values.var()) / variance - 1) <= 5 * math.sqrt(0.8 / shaken)


def test_the_expected_branch_is_the_plain_one() -> None:
    p, draws = 0.4, 4000
    generator = stream(0, "mean")
    values = torch.tensor([float(shakedrop(torch.ones(1), p, generator=generator)) for _ in range(draws)])
    # E[factor²] = (1-p) + p/3, over (1-p)²
    variance = ((1 - p) + p / 3) / (1 - p) ** 2 - 1
    assert abs(float(values.mean()) - 1) <= 5 * math.sqrt(variance / draws)


def test_derivatives_of_the_gradient() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    factor = torch.rand(4, 1, dtype=torch.float64)
    # With one factor for both ways it is a product, so finite differences must agree, twice.
    assert torch.autograd.gradcheck(lambda x: shake(x, factor, factor), (x,))
    assert torch.autograd.gradgradcheck(lambda x: shake(x, factor, factor) ** 2, (x,))


def test_attached_it_does_what_the_layer_does() -> None:
    task = ToyResidual()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(6))
    regularizer = ShakeDrop(p=0.8)
    regularizer.attach(model, task)
    regularizer.transform(model, batch, task, stream(3, "draws"))
    out = model(batch.inputs)
    out.sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    regularizer.detach()
    model.zero_grad()
    generator = stream(3, "draws")
    x = model.stem(batch.inputs)
    for block, p in ((model.block1, 0.4), (model.block2, 0.8)):
        branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        x = F.relu(block.projection(x) + shakedrop(branch, p, generator=generator))
    wanted = model.head(x.amax((2, 3)))
    assert torch.equal(out, wanted)
    wanted.sum().backward()
    assert all(torch.equal(found[name], parameter.grad) for name, parameter in model.named_parameters())


def test_off_it_is_the_identity() -> None:
    branch = torch.randn(2, 3)
    assert shakedrop(branch, 0.0) is branch


@pytest.mark.parametrize(("field", "value"), [("p", 1.0), ("p", -0.1), ("decay", "linaer")])
def test_bad_settings(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"shakedrop.*{field}"):
        ShakeDropSettings(**{field: value})


def test_card() -> None:
    text = (importlib.resources.files("regathlon_core.regularizers.shakedrop") / "card.md").read_text("utf-8")
    names: dict[str, Any] = {"__name__": "card"}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "shakedrop/card.md", "exec"), names)
    assert names["plain"][0].shake.settings.p == 0
    for field in ShakeDropSettings().settings():
        assert f"| `{field}` |" in text
