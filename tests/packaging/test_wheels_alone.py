"""Each package's wheel, alone with what it declares in an empty environment, imports and trains."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TRAIN = """
from importlib.metadata import entry_points
from regathlon_core import Budget, DropBlock, UserError, fit
import dataclasses
for entry in entry_points(group="regathlon.tasks"):
    settings = entry.load()().grid()[0]
    try:
        task = settings.build()
    except UserError:  # its data is not here
        continue
    recipe = dataclasses.replace(settings.recipe, budget=Budget(steps=2))
    result = fit(settings.models[0]().build(task), task, DropBlock(p=0.1), recipe)
    print(entry.name, result.history[-1].test)
"""

# What each wheel may bring along of ours, and a program that uses it.
PACKAGES = {
    "regathlon-core": (
        {"regathlon-core"},
        "from regathlon_core import Budget, DropBlock, Recipe, fit\n"
        "from regathlon_core.testing import ToyImages\n"
        "task = ToyImages()\n"
        "print(fit(task.model(seed=0), task, DropBlock(p=0.1), Recipe(budget=Budget(epochs=1))).history[-1].test)",
    ),
    "regathlon-data": (
        {"regathlon-data"},
        "import regathlon_data, sys\n"
        "assert regathlon_data.load_digits().images.shape == (1797, 8, 8)\n"
        "assert regathlon_data.manifest('digits').licence\n"
        "assert 'torch' not in sys.modules\n"
        "print('accuracy')",
    ),
    "regathlon-vision": ({"regathlon-core", "regathlon-data", "regathlon-vision"}, TRAIN),
    "regathlon-points": ({"regathlon-core", "regathlon-data", "regathlon-points"}, TRAIN),
    "regathlon-graphs": ({"regathlon-core", "regathlon-data", "regathlon-graphs"}, TRAIN),
    "regathlon-dg": ({"regathlon-core", "regathlon-data", "regathlon-dg", "regathlon-vision"}, TRAIN),
}


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv")
    if found is None:
        pytest.skip("uv is not on the PATH")
    return found


@pytest.fixture(scope="module")
def wheels(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [uv, "build", "--quiet", "--wheel", "--all-packages", "--out-dir", folder, ROOT], check=True
    )
    return folder


def clean_environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "TOX"))
    }
    return {**kept, "VIRTUAL_ENV": str(folder), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("package", PACKAGES)
def test_alone(package: str, uv: str, wheels: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "env")
    subprocess.run([uv, "venv", "--quiet", tmp_path / "env"], check=True, cwd=tmp_path)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(exact_versions()))
    install = [uv, "pip", "install", "--quiet", "--find-links", wheels, "--constraints", constraints, package]
    subprocess.run(install, check=True, cwd=tmp_path, env=environment)

    listed = subprocess.run(
        [uv, "pip", "list", "--format", "freeze"],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    ours, program = PACKAGES[package]
    installed = {line.partition("==")[0] for line in listed.stdout.split() if line.startswith("regathlon")}
    assert installed == ours

    ran = subprocess.run(
        [tmp_path / "env/bin/python", "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "accuracy" in ran.stdout


def exact_versions() -> list[str]:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]


def test_runner_wheel_brings_its_suites(uv: str, wheels: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "env")
    subprocess.run([uv, "venv", "--quiet", tmp_path / "env"], check=True, cwd=tmp_path)
    install = [uv, "pip", "install", "--quiet", "--find-links", wheels, "regathlon"]
    subprocess.run(install, check=True, cwd=tmp_path, env=environment)
    command = [tmp_path / "env/bin/regathlon", "list", "suites", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "quick" in ran.stdout
