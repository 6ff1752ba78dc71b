"""Roles of passes: what each does to norm layers and dropout, and that nothing of it stays."""

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import PassRole, current_role, run_as
from regathlon_core.testing.trees import copied, difference

NORMS = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3),
    "BatchNorm3d": lambda: nn.BatchNorm3d(3),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
    "not tracking": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(3, track_running_stats=True, affine=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
    "InstanceNorm not tracking": lambda: nn.InstanceNorm2d(3),
    "GroupNorm": lambda: nn.GroupNorm(3, 3),
}


def inputs(name: str) -> Tensor:
    positions = {"1": (6,), "3": (3, 4, 2)}.get(name[-2], (4, 5))
    return 2 + 3 * torch.randn(5, 3, *positions, generator=torch.Generator().manual_seed(0))


def flags(model: nn.Module) -> list[tuple[bool, object]]:
    return [(module.training, getattr(module, "track_running_stats", None)) for module in model.modules()]


@pytest.mark.parametrize("role", PassRole)
@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("name", NORMS)
def test_only_full_passes_move_statistics(name: str, frozen: bool, role: PassRole) -> None:
    x = inputs(name)
    norm = NORMS[name]()
    norm(x * 0.5)  # statistics that are not the initial ones
    norm.train(not frozen)
    reference = NORMS[name]()
    reference.load_state_dict(norm.state_dict())
    before, kept = copied(dict(norm.named_buffers())), flags(norm)
    keys = list(norm.state_dict())
    with run_as(norm, role):
        assert current_role() is role
        out = norm(x)
    assert current_role() is PassRole.FULL
    assert flags(norm) == kept
    assert list(norm.state_dict()) == keys
    moves = role is PassRole.FULL and not frozen and "running_mean" in before
    assert (difference(before, dict(norm.named_buffers())) is not None) == moves

    by_batch = {PassRole.SUB: True, PassRole.ATTRIBUTION: False}.get(role, not frozen)
    wanted = reference.train(by_batch)(x)
    torch.testing.assert_close(out, wanted)


@pytest.mark.parametrize("role", PassRole)
def test_dropout_by_role(role: PassRole) -> None:
    x = torch.ones(4, 50)
    for layer in (nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5), nn.Dropout1d(0.5)):
        with run_as(layer, role):
            acts = not torch.equal(layer(x), x)
        assert acts == (role in (PassRole.FULL, PassRole.SUB))
        assert layer.training


def test_everything_is_restored_after_an_exception_and_in_nested_passes() -> None:
    model = nn.Sequential(
        nn.BatchNorm1d(3),
        nn.Dropout(0.5),
        nn.BatchNorm1d(3).eval(),
        nn.InstanceNorm1d(3, track_running_stats=True),
    )
    kept, buffers = flags(model), dict(model.named_buffers())

    @run_as(model, PassRole.SUB)
    def fail() -> None:
        assert [module.training for module in model] == [True, True, True, True]
        inside = flags(model)
        with run_as(model, PassRole.ATTRIBUTION):
            assert current_role() is PassRole.ATTRIBUTION
            assert not any(module.training for module in model.modules())
        assert flags(model) == inside
        assert current_role() is PassRole.SUB
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert flags(model) == kept
    assert current_role() is PassRole.FULL
    assert {name: id(value) for name, value in model.named_buffers()} == {
        n: id(v) for n, v in buffers.items()
    }


def test_gradients_flow_through_passes_of_every_role() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.1))
    for role in PassRole:
        model.zero_grad()
        with run_as(model, role):
            model(torch.randn(8, 3, generator=torch.Generator().manual_seed(1))).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_another_threads_role_is_its_own() -> None:
    import threading

    found: list[PassRole] = []
    with run_as(nn.Identity(), PassRole.PROBE):
        thread = threading.Thread(target=lambda: found.append(current_role()))
        thread.start()
        thread.join()
    assert found == [PassRole.FULL]
