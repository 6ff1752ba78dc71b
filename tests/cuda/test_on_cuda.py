"""What only a CUDA device can show: every regularizer trains there, resumes to the same bits, and in half precision.

Without such a device GradAug alone is tested, on the CPU, so that these tests themselves are known to work.
"""

import contextlib
import dataclasses

import pytest
import torch

from regathlon_core import Budget, Task, fit, subnetwork
from regathlon_core.attribution import lrp
from regathlon_core.testing import TOY_TASKS, Ending, Killed, ToyDomains, cases
from regathlon_core.testing.cases import Case, shortened
from regathlon_core.testing.trees import copied, difference
from regathlon_points import ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

TASKS = [task if isinstance(task, Task) else task.build() for task in (*TOY_TASKS, ToyDomains())]
CASES = [Case((settings,), task) for task in TASKS for settings in cases(task)]
if DEVICE == "cpu":
    CASES = [case for case in CASES if case.name.startswith("gradaug")]
NEEDS_CUDA = pytest.mark.skipif(DEVICE == "cpu", reason="compares a CUDA device with the CPU")
IDS = [f"{case.name}-{case.task.settings.name}" for case in CASES]


def trained(case, folder, stop=None, **changes):
    """Weights and state after two short epochs on the device, perhaps killed once and resumed."""
    task = shortened(case.task, batches=3)
    own = task.settings.recipe
    recipe = dataclasses.replace(own, batch_size=min(own.batch_size, 8), budget=Budget(epochs=2), **changes)
    observer = Ending(kill=[f"step {stop}"])
    for attempt in range(2):
        model, regularizer = case.model(seed=attempt if stop else 0), case.regularizer()
        with contextlib.suppress(Killed):
            result = fit(
                model,
                task,
                regularizer,
                recipe,
                device=DEVICE,
                checkpoint=folder / f"{stop}.pt",
                checkpoint_seconds=0.0,
                prefetch=2,
                observer=observer,
            )
            assert attempt or stop is None, "the training ended before it was to be killed"
            return result, copied(model.state_dict()), copied(regularizer.state_dict())
    raise AssertionError("it was killed twice")


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_trains_and_resumes_to_the_bit(case, tmp_path):
    (tmp_path / "again").mkdir()
    result, *first = trained(case, tmp_path)
    assert all(torch.isfinite(torch.tensor(record.train_loss)) for record in result.history)
    _, *second = trained(case, tmp_path / "again")
    if (gap := difference(first, second)) is not None:
        pytest.skip(f"two trainings differ on this device, undisturbed: {gap}")
    _, *resumed = trained(case, tmp_path, stop=2)
    assert difference(first, resumed) is None


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_trains_in_half_precision(case, precision, tmp_path):
    result, weights, _ = trained(case, tmp_path, precision=precision)
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
    assert torch.isfinite(torch.tensor(result.history[-1].train_loss))


@NEEDS_CUDA
@pytest.mark.parametrize("width", [0.8, 0.5])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.settings.name)
def test_sub_networks_compute_what_they_do_on_a_cpu(task, width):
    case = next((case for case in CASES if case.task is task and case.name.startswith("gradaug")), None)
    if case is None:
        pytest.skip("gradaug does not run on this task")
    model, batch = case.model().double().eval(), case.batches(1)[0]
    found = []
    for device in ("cpu", DEVICE):
        model.to(device)
        moved = double(batch.to(device))
        with torch.no_grad(), subnetwork(model, width, output_layers=task.output_layers(model)):
            found.append(copied(task.predict(model, moved)))
    torch.testing.assert_close(found[0], found[1], check_device=False, rtol=1e-10, atol=1e-10)


def double(batch):
    """The batch with its floating-point tensors in float64."""
    if isinstance(batch, torch.Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if dataclasses.is_dataclass(batch):
        return dataclasses.replace(
            batch,
            **{
                field.name: double(getattr(batch, field.name))
                for field in dataclasses.fields(batch)
                if field.init
            },
        )
    return batch


@NEEDS_CUDA
def test_relevance_is_what_it_is_on_a_cpu():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 49, 5),
    ).double()
    x, target = torch.randn(4, 3, 16, 16).double(), torch.tensor([0, 1, 2, 3])
    on_cpu = lrp(model, x, target)
    on_device = lrp(model.to(DEVICE), x.to(DEVICE), target.to(DEVICE))
    torch.testing.assert_close(on_cpu, on_device.cpu(), rtol=1e-9, atol=1e-12)


@NEEDS_CUDA
@pytest.mark.parametrize("channels", [3, 64])
def test_point_operations_are_those_of_a_cpu(channels):
    generator = torch.Generator().manual_seed(0)
    # Whole numbers: their distances are exact, so ties are equal on both devices.
    x = torch.randint(-20, 20, (4, 512, channels), generator=generator).float()
    y = x.to(DEVICE)
    assert torch.equal(ops.knn(x, 20), ops.knn(y, 20).cpu())
    if channels == 3:
        chosen = ops.farthest_point_sample(x, 128, start=0)
        assert torch.equal(chosen, ops.farthest_point_sample(y, 128, start=0).cpu())
        centers = torch.take_along_dim(x, chosen[..., None], 1)
        assert torch.equal(
            ops.ball_query(x, centers, 6.0, 16), ops.ball_query(y, centers.to(DEVICE), 6.0, 16).cpu()
        )
