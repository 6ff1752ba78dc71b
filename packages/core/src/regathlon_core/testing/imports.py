"""Declarations are read at plan time, so they import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from regathlon_core.settings import Declaration

HEAVY = ("torch", "numpy", "scipy", "torchvision", "torch_geometric", "trimesh", "pandas", "matplotlib")


def assert_imports_lightly(declarations: Iterable[type[Declaration]]) -> None:
    """Import the modules of declarations in a fresh process, and hold them to importing nothing heavy.

    Args:
        declarations: Settings classes of regularizers, models or tasks, in importable modules.

    Raises:
        AssertionError: One imports torch, numpy or the like, directly or indirectly; the message names it.
    """
    modules = sorted({declaration.__module__ for declaration in declarations})
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    if heavy: sys.exit(f'{module} imports {heavy[0]}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"declarations must import lightly: {done.stderr.strip().splitlines()[-1]}"
