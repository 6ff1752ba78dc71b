"""The regularizer that CONTRIBUTING shows, in a package of its own: listed, run in a suite, and held to the kit."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = re.compile(r'^```\w+ title="([\w./-]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
SUITE = """
tasks: [vision/digits, graphs/karate]
regularizers: [none, gaussian_noise, "gaussian_noise(std=0.1)+cutmix"]
seeds: 1
budget: {epochs: 1}
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that CONTRIBUTING shows, and where they are installed."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH")
    folder = tmp_path_factory.mktemp("plugin")
    files = dict(FILE.findall((ROOT / "CONTRIBUTING.md").read_text()))
    assert len(files) == 3
    for name, text in files.items():
        (folder / name).write_text(text)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", folder]
    subprocess.run(install, check=True)
    return folder


def run(plugin: Path, *command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(plugin / "site"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), cwd=plugin, env=environment, capture_output=True, text=True
    )


def test_it_is_about_thirty_lines(plugin: Path) -> None:
    lines = (plugin / "regathlon_gaussian_noise.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 32


def test_it_is_listed_and_runs(plugin: Path) -> None:
    regathlon = Path(sys.executable).with_name("regathlon")
    assert "gaussian_noise" in run(plugin, regathlon, "list", "regularizers").stdout
    (plugin / "suite.yaml").write_text(SUITE)
    ran = run(plugin, regathlon, "run", "suite.yaml", "--out", "out")
    assert ran.returncode == 0, ran.stderr
    assert "gaussian_noise " in ran.stdout
    assert "cutmix" in ran.stdout


def test_it_passes_the_kit(plugin: Path) -> None:
    ran = run(
        plugin, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gaussian_noise.py"
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert re.search(r"\d{2,} passed", ran.stdout)
