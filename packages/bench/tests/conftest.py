"""Installs the toy plugin (``plugin/``) for these tests, in this process and in those it starts."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore = ["plugin"]

_METADATA = "Metadata-Version: 2.1\nName: toyplug\nVersion: 0.1\n"
_ENTRY_POINTS = """\
[regathlon.tasks]
toy/blobs = toyplug.settings:BlobsSettings
toy/shifted = toyplug.settings:ShiftedSettings
toy/downloaded = toyplug.settings:DownloadedSettings
toy/broken = toyplug.nowhere:BrokenSettings
[regathlon.regularizers]
noise = toyplug.settings:NoiseSettings
slow = toyplug.settings:SlowSettings
mix = toyplug.settings:MixSettings
blend = toyplug.settings:BlendSettings
graph_only = toyplug.settings:GraphOnlySettings
boom = toyplug.settings:BoomSettings
[regathlon.suites]
toyplug = toyplug.suites
[regathlon.datasets]
toyplug = toyplug.data
"""


@pytest.fixture(scope="session", autouse=True)
def toy_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    installed = tmp_path_factory.mktemp("site") / "toyplug-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(_METADATA)
    (installed / "entry_points.txt").write_text(_ENTRY_POINTS)
    paths = [str(installed.parent), str(Path(__file__).parent / "plugin")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*paths, *sys.path])
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield


@pytest.fixture
def suite_file(tmp_path: Path):
    """Return a function that writes a suite file."""

    def write(text: str, name: str = "toy") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return path

    return write
