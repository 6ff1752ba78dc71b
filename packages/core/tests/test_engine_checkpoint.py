"""Checkpoints survive kills, and what is no good is refused in words, without executing it."""

import os
import pickle
import random
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regathlon_core import Budget, DropBlock, Interrupted, Recipe, UserError, fit
from regathlon_core.engine.checkpoint import load_checkpoint, save_checkpoint
from regathlon_core.testing import Ending, ToyImages, ToyScenes
from regathlon_core.testing.toys.images import ToyConvSettings
from regathlon_core.testing.trees import difference

STATE = {"weights": {"w": torch.arange(4096.0)}, "history": [{"loss": 0.5}], "name": "x", "none": None}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert difference(loaded["weights"], STATE["weights"]) is None
    assert {key: loaded[key] for key in ("history", "name", "none")} == {
        k: STATE[k] for k in ("history", "name", "none")
    }
    assert list(saved.parent.iterdir()) == [saved]


def test_any_flipped_bit_is_found_or_without_effect(saved: Path) -> None:
    whole = saved.read_bytes()
    draw = random.Random(0)
    found = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        saved.write_bytes(damaged)
        try:
            loaded = load_checkpoint(saved)
        except UserError as error:
            found += str(saved) in str(error) and "Delete it" in str(error)
        else:
            loaded.pop("format")
            assert difference(loaded, STATE) is None
    assert found > 200


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_refused(saved: Path, kept: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive", pickle.dumps({"format": 1})])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [torch.zeros(2), {"format": 99}, {"model": {}}, [1, 2]])
def test_another_format_or_version_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match="this version reads 1"):
        load_checkpoint(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path: Path) -> None:
    for number, write in enumerate((torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb)))):
        path, crater = tmp_path / f"{number}.pt", tmp_path / f"crater{number}"
        write({"format": 1, "model": Bomb(crater)}, path)
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(path)
        assert not crater.exists()
        os.mkdir(crater)  # noqa: PTH102 - what the bomb would have done works here


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(saved, {"big": torch.zeros(10_000), "unpicklable": lambda: 0})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_kill_9_during_saves_leaves_a_loadable_file(tmp_path: Path) -> None:
    script = """
        import os, random, signal, sys, time
        from pathlib import Path
        import torch
        from regathlon_core.engine.checkpoint import load_checkpoint, save_checkpoint

        path, draw, last = Path(sys.argv[1]), random.Random(0), 0
        def written():
            return path.stat().st_mtime_ns if path.exists() else None

        for attempt in range(12):
            before = written()
            child = os.fork()
            if not child:
                for number in range(last + 1, last + 100_000):
                    save_checkpoint(path, {"number": number, "weights": torch.full((50_000,), float(number))})
            deadline = time.monotonic() + 120
            while written() == before and time.monotonic() < deadline:
                time.sleep(0.001)  # at least one save is done, however slow the disk is
            time.sleep(draw.uniform(0.0, 0.05))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            state = load_checkpoint(path)
            assert state["number"] >= last and bool((state["weights"] == state["number"]).all())
            last = state["number"]
        print(last)
    """
    path = tmp_path / "checkpoint.pt"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 12


# ---- of another training -----------------------------------------------------------------------------------


TASK = ToyImages()
RECIPE = Recipe(batch_size=16, budget=Budget(steps=4))


def wide_model() -> torch.nn.Module:
    return ToyConvSettings(width=9).build(TASK)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed is 0, not 1"),
        ({"recipe": replace(RECIPE, lr=0.2)}, "its recipe is"),
        ({"regularizer": DropBlock(p=0.1)}, "its regularizer is 'none', not 'dropblock"),
        ({"model": wide_model()}, "its model is"),
        ({"task": ToyScenes()}, "its task is 'vision/toy', not 'segmentation/toy'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, changed: Any, named: str) -> None:
    path = tmp_path / "checkpoint.pt"
    arguments: dict[str, Any] = {"task": TASK, "recipe": RECIPE, "seed": 0, "checkpoint": path}
    with pytest.raises(Interrupted):
        fit(TASK.model(0), **arguments, observer=Ending(stop=[2]))
    before = path.read_bytes()
    arguments |= changed
    model = arguments.pop("model", None) or arguments["task"].model(0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as refused:
        fit(model, **arguments)
    assert named in str(refused.value)
    assert difference(weights, model.state_dict()) is None
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_stops_fit_with_a_message(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"damaged")
    model = TASK.model(0)
    with pytest.raises(UserError, match="Delete it to start this training again"):
        fit(model, TASK, DropBlock(p=0.1), RECIPE, checkpoint=path)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_checkpoint_with_parts_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        fit(TASK.model(0), TASK, None, RECIPE, checkpoint=path, observer=Ending(stop=[2]))
    state = torch.load(path, weights_only=True)
    for part in state.keys() - {"format"}:
        torch.save({key: value for key, value in state.items() if key != part}, path)
        with pytest.raises(UserError, match=part):
            fit(TASK.model(0), TASK, None, RECIPE, checkpoint=path)
