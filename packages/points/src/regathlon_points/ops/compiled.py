"""The loops of ``kernels.cpp``, built on first use where there is a C++ compiler.

The library is kept in the user's cache folder (``$XDG_CACHE_HOME/regathlon``, else ``~/.cache/regathlon``) under a
name made of the source, the compiler and the processor, so that it is built once per machine. Where there is no
compiler, or ``REGATHLON_COMPILE=0`` says so, callers take the way through tensor operations, whose results are
the same.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-O3", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC", "-pthread")
_TUNED = "-march=native"
_TIMEOUT = 120  # seconds


def usable(*tensors: Tensor) -> bool:
    """Return whether these tensors can go the compiled way: they lie in main memory, and there is a library."""
    if any(tensor.device.type != "cpu" for tensor in tensors) or torch.compiler.is_compiling():
        return False
    return library() is not None


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled functions, built if need be; None where they cannot be had."""
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("c++") or shutil.which("g++")
    if compiler is None or os.environ.get("REGATHLON_COMPILE") == "0":
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def farthest(points: Tensor, start: Tensor, count: int) -> Tensor:
    """See ``tensors.farthest``."""
    batch, channels, total = points.shape
    return _call("farthest", (points, start), (batch, channels, total, count), (batch, count))


def ball(points: Tensor, centers: Tensor, squared_radius: float, k: int) -> Tensor:
    """See ``tensors.ball``."""
    sizes = (*points.shape, centers.shape[2], k)
    shape = (len(points), centers.shape[2], k)
    return _call("ball", (points, centers.mT), sizes, shape, ctypes.c_double(squared_radius))


def nearest(points: Tensor, centers: Tensor, k: int) -> Tensor:
    """See ``tensors.nearest``."""
    sizes = (*points.shape, centers.shape[2], k)
    return _call("knn", (points, centers.mT), sizes, (len(points), centers.shape[2], k))


def smallest(values: Tensor, k: int) -> Tensor:
    """See ``tensors.smallest``; ``values`` is float32 or float64."""
    rows, total = values.shape[:-1], values.shape[-1]
    name = "smallest_double" if values.dtype == torch.float64 else "smallest_float"
    return _call(name, (values,), (rows.numel(), total, k), (*rows, k))


def _call(
    name: str, inputs: tuple[Tensor, ...], sizes: tuple[int, ...], shape: tuple[int, ...], *numbers: object
) -> Tensor:
    loaded = library()
    assert loaded is not None
    arrays = [tensor.contiguous() for tensor in inputs]
    out = torch.empty(shape, dtype=torch.int64)
    loaded[f"regathlon_{name}"](
        *(ctypes.c_void_p(array.data_ptr()) for array in arrays),
        *(ctypes.c_int64(size) for size in sizes),
        *numbers,
        ctypes.c_int64(torch.get_num_threads()),
        ctypes.c_void_p(out.data_ptr()),
    )
    return out


def _built(compiler: str) -> Path:
    """Return the library's file, building it under another name first, so that no half of it is ever seen."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, timeout=_TIMEOUT, check=True
    ).stdout
    made_of = b"\0".join([_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), version, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regathlon"
    path = folder / f"points-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / path.name
            try:
                _compile(compiler, fresh, _TUNED)
            except subprocess.CalledProcessError:
                _compile(compiler, fresh)
            fresh.replace(path)
    return path


def _compile(compiler: str, out: Path, *flags: str) -> None:
    command = [compiler, *_FLAGS, *flags, str(_SOURCE), "-o", str(out)]
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=True)


def _processor() -> bytes:
    """Return what code for this very processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return f"{platform.machine()} {flags}".encode()
