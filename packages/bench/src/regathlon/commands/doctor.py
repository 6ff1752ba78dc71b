"""``regathlon doctor``: versions, devices, data and plugins."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from regathlon import datasets, plugins
from regathlon.cli import DONE, SOME_FAILED
from regathlon.commands.output import out, write_json
from regathlon.run import cores

_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": names}))
"""


def show_doctor(*, as_json: bool, data: Path | None) -> int:
    """Print what is installed and what is wrong with it; return 2 where something is."""
    found = examine(data)
    if as_json:
        write_json(found)
    else:
        _print(found)
    return SOME_FAILED if found["problems"] else DONE


def examine(data: Path | None) -> dict[str, Any]:
    """Return versions, devices, plugins and problems."""
    problems: list[str] = []
    torch = _torch(problems)
    found = {}
    for kind in ("task", "regularizer", "executor"):
        loaded, broken = plugins.load_all(kind)
        found[f"{kind}s"] = len(loaded)
        problems += [str(error) for error in broken]
    folder = datasets.root(data)
    present = [row["dataset"] for row in datasets.listing(folder) if row["here"] == "yes"]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": cores(),
        "torch": torch,
        "packages": _packages(),
        "plugins": {**found, "suites": len(plugins.suite_files())},
        "data": {"folder": str(folder), "free_gb": _free_gb(folder), "datasets": present},
        "problems": problems,
    }


def _torch(problems: list[str]) -> dict[str, Any] | None:
    """Ask torch in a process of its own: a broken installation may end the process."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    try:
        answer: dict[str, Any] = json.loads(asked.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        problems.append(f"torch cannot be imported: {last}")
        return None
    return answer


def _packages() -> dict[str, str]:
    wanted = {"numpy", "pydantic", "torchvision", "torch-geometric", "trimesh", "ogb"}
    return {
        distribution.name: distribution.version
        for distribution in sorted(importlib.metadata.distributions(), key=lambda d: d.name or "")
        if distribution.name and (distribution.name in wanted or distribution.name.startswith("regathlon"))
    }


def _free_gb(folder: Path) -> float | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return round(shutil.disk_usage(folder).free / 1e9, 1)
    except OSError:
        return None


def _print(found: dict[str, Any]) -> None:
    console = out()
    torch = found["torch"]
    devices = ", ".join(torch["devices"]) or "no CUDA device" if torch else ""
    data, counts = found["data"], found["plugins"]
    here = ", ".join(data["datasets"]) or "embedded only"
    rows = {
        "Python": f"{found['python']} on {found['platform']}, {found['cores']} cores",
        "torch": f"{torch['version']} (CUDA {torch['cuda'] or 'none'}; {devices})" if torch else "broken",
        "packages": ", ".join(f"{name} {version}" for name, version in found["packages"].items()),
        "plugins": ", ".join(f"{count} {kind}" for kind, count in counts.items()),
        "data": f"{data['folder']} ({data['free_gb']} GB free); here: {here}",
    }
    for name, value in rows.items():
        console.print(f"{name:<9} {value}", soft_wrap=True)
    for problem in found["problems"]:
        console.print(f"problem   {problem}", style="red", soft_wrap=True)
    if not found["problems"]:
        console.print("No problems found.")
