"""Disout: how large the noise is, where it lies, and whose weights it is measured by."""

import copy
import importlib.resources
import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core import Disout, DisoutSettings, FeaturePoint, UserError
from regathlon_core.functional import disout, drop_block
from regathlon_core.regularizers.disout.functional import NO_WEIGHT, sample_channel_weights
from regathlon_core.regularizers.disout.readers import Reader, find_readers
from regathlon_core.regularizers.dropblock.functional import sample_drop_block
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages, conformance_checks


@pytest.mark.parametrize("check", conformance_checks(DisoutSettings(p=0.3, block_size=2)), ids=str)
def test_conforms(check: Any) -> None:
    check()


# ---- the noise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4, 20), (3, 4, 9, 7), (2, 4, 5, 6, 3)])
def test_kept_units_are_rescaled_and_the_others_are_noise(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=stream(0, "x"), dtype=torch.float64)
    weights = torch.tensor([0.1, -0.2, 0.0, 3.0], dtype=torch.float64)
    generator = stream(0, "act")
    out = disout(x, 0.3, 2.0, 2, weights=weights, generator=generator)

    generator = stream(0, "act")
    mask = sample_drop_block(shape, 0.3, 2, generator=generator)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    scale = mask.numel() / (~mask).sum()
    deviation = math.sqrt(float(((x - x.mean()) ** 2).sum()) / (x.numel() - 1))
    for channel, weight in enumerate(weights):
        wanted = torch.where(mask[:, channel], 2.0 * weight * deviation * noise[:, channel], x[:, channel])
        torch.testing.assert_close(out[:, channel], wanted * scale, atol=1e-7, rtol=1e-6)  # a float32 scale


def test_without_strength_it_is_dropblock() -> None:
    x = torch.randn(3, 5, 9, 8, generator=stream(0, "x"))
    wanted = drop_block(x, 0.3, 4, generator=stream(0, "act"))
    torch.testing.assert_close(disout(x, 0.3, 0.0, 4, generator=stream(0, "act")), wanted)


def test_gradients_pass_kept_units_alone() -> None:
    x = torch.randn(2, 3, 6, 6, generator=stream(0, "x"), requires_grad=True)
    weights = torch.ones(3)
    out = disout(x, 0.4, 1.0, 2, weights=weights, generator=stream(0, "act"))
    (grad,) = torch.autograd.grad(out.sum(), x)
    mask = sample_drop_block(x.shape, 0.4, 2, generator=stream(0, "act"))
    scale = float(mask.numel() / (~mask).sum())
    torch.testing.assert_close(grad, torch.where(mask, 0.0, scale))


def test_what_fills_graphs_up_does_not_count() -> None:
    x = torch.randn(2, 3, 6, generator=stream(0, "x"))
    present = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    filled = x.clone().mT
    filled[~present] = 0
    once, twice = (
        disout(values, 1 - 1e-6, 1.0, 1, present=present, generator=stream(0, "act"))
        for values in (x, filled.mT)
    )
    assert torch.equal(once, twice)  # (almost) all is noise, whose size the units that are there decide


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_half_precision_activations_stay_finite(dtype: torch.dtype) -> None:
    x = (torch.randn(2, 8, 7, 7, generator=stream(0, "x")) * 1000).to(dtype)
    out = disout(x, 0.3, 1.0, 3, weights=torch.full((8,), 0.1), generator=stream(0, "act"))
    assert out.dtype is dtype
    assert bool(torch.isfinite(out).all())


# ---- the weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "kernel"), [(1, (3, 3)), (2, (3, 1)), (6, (5,)), (1, (1, 1)), (1, ())])
def test_channel_weights_against_loops(groups: int, kernel: tuple[int, ...]) -> None:
    weight = torch.randn(12, 6 // groups, *kernel, generator=stream(0, "w"), dtype=torch.float64)
    found = sample_channel_weights(weight, groups, generator=stream(0, "signs"))
    flat = weight.reshape(12, 6 // groups, -1)
    places = flat.shape[2]
    negative = torch.rand(6, places, generator=stream(0, "signs")) < 0.5
    for channel in range(6):
        group, within = divmod(channel, 6 // groups)
        total = 0.0
        for place in range(places):
            outputs = range(group * 12 // groups, (group + 1) * 12 // groups)
            largest = max(float(flat[output, within, place]) for output in outputs)
            total += -largest if negative[channel, place] else largest
        assert float(found[channel]) == pytest.approx(total / places * (0.1 if places == 1 else 1))


class Branches(nn.Module):
    """The modules stand in another order than the calls; maps are joined, normalised, pooled and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(10, 3)
        self.late = nn.Conv2d(8, 10, 3, padding=1, groups=2, bias=False)
        self.side = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.last = nn.Identity()
        self.flat = nn.Identity()
        self.unread = nn.Linear(90, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        b = b + F.relu(b)
        joined = F.max_pool2d(F.relu(self.norm(torch.cat([a, b], dim=1))), 2)
        y = self.last(self.late(joined)) + 1
        self.side(a)  # reads the map, too, but later
        pooled = y.mean(dim=(2, 3)).relu()
        return self.head(pooled) + self.unread(self.flat(y)[:, :, :3, :3].flatten(1))


def test_readers_are_found_by_following_the_map() -> None:
    model = Branches()
    points = [FeaturePoint("first", 4), FeaturePoint("second", 4), FeaturePoint("last", 10)]
    x = torch.randn(2, 3, 12, 12)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    found = find_readers(model, points, lambda: model(x))
    assert found["first"] == Reader(model.late.weight, 2, 0, 4)
    assert found["second"] == Reader(model.late.weight, 2, 4, 4)
    assert found["last"] == Reader(model.head.weight, 1, 0, 10)
    per_channel = torch.arange(8.0)
    assert found["second"].of_map(per_channel).tolist() == [4, 5, 6, 7]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_map_that_no_layer_reads_has_none() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 16, 3))
    assert find_readers(model, [FeaturePoint("0", 2)], lambda: model(torch.randn(1, 1, 6, 6))) == {}


def test_attention_reads_tokens() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    model = nn.Sequential(nn.Identity(), layer)
    points = [FeaturePoint("0", 8, layout="channels_last")]
    found = find_readers(model, points, lambda: model(torch.randn(2, 5, 8)))
    assert found["0"].weight is layer.self_attn.in_proj_weight


def test_attached_the_noise_follows_the_reader_s_weights_of_every_step() -> None:
    task = ToyImages()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(8))
    regularizer = Disout(p=0.5, alpha=1.5, block_size=2, schedule="constant", where=("block1",))
    regularizer.attach(model, task)
    for seed in range(3):  # the first pass also looks for the reader, which draws no numbers
        regularizer.transform(model, batch, task, stream(seed, "act"))
        seen: list[Tensor] = []
        hook = model.block1.register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(output)
        )
        model(batch.inputs)
        hook.remove()
        generator = stream(seed, "act")
        reader = model.get_parameter("block2.0.weight")
        weights = sample_channel_weights(reader, generator=generator)
        with torch.no_grad():
            plain = copy.deepcopy(model.block1)
            plain._forward_hooks.clear()
            wanted = disout(plain(batch.inputs), 0.5, 1.5, 2, weights=weights, generator=generator)
            reader.mul_(-2)
        assert torch.equal(seen[-1], wanted)
        assert len(seen) == (2 if seed == 0 else 1)
    regularizer.detach()
    assert not model._forward_pre_hooks


def test_a_module_that_runs_in_several_places_works() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.first, self.second = nn.ReLU(), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.second(self.act(self.first(x))))

    model = Shared()
    regularizer = Disout(p=0.5, block_size=1, where=("act",), schedule="constant")
    regularizer.attach(model)
    assert model(torch.randn(2, 1, 9, 9)).shape == (2, 3, 5, 5)
    regularizer.detach()


def test_a_layer_of_ones_own_knows_no_reader() -> None:
    x = torch.randn(4, 3, 8, 8, generator=stream(0, "x"))
    layer = Disout(p=0.5, alpha=2.0, block_size=1)
    layer._generator = stream(0, "act")
    wanted = disout(x, 0.5, 2.0, 1, weights=torch.full((3,), NO_WEIGHT), generator=stream(0, "act"))
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize(
    ("field", "value"),
    [("p", 1.1), ("alpha", -1.0), ("block_size", 0), ("schedule", "cubic"), ("where", "layer3")],
)
def test_bad_settings(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"disout.*{field}"):
        DisoutSettings(**{field: value})


def test_card() -> None:
    text = (importlib.resources.files("regathlon_core.regularizers.disout") / "card.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "disout/card.md", "exec"), names)
    assert set(names["regularizer"]._readers) == {"1"}
    for field in DisoutSettings().settings():
        assert f"| `{field}` |" in text
