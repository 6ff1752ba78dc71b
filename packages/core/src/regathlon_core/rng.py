"""Where random numbers come from: streams named by what they are for, and draws that belong to a sample.

No library code touches a global random state. A stream is a ``torch.Generator`` seeded from (seed, purpose,
...); a sample's augmentation is a pure function of (seed, epoch, sample index), so it does not depend on the
number of workers, on the batch it lands in, or on what was drawn before a resume.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK63 = (1 << 63) - 1


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2**63) for one purpose; unrelated purposes get unrelated seeds.

    Example:
        >>> [derive_seed(0, "init") == derive_seed(0, purpose) for purpose in ("init", "order")]
        [True, False]
    """
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & _MASK63


def stream(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for one purpose.

    Args:
        seed: The trial's seed.
        purpose: What the numbers are for (``"regularizer"``, ``"order", epoch``, a rank).
        device: Where it draws.
    """
    return torch.Generator(device).manual_seed(derive_seed(seed, *purpose))


def on_cpu(generator: torch.Generator) -> torch.Generator:
    """Return a generator that draws on the CPU: the one given where it does, else one that it seeds."""
    if generator.device.type == "cpu":
        return generator
    seed = torch.randint(_MASK63, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


@contextlib.contextmanager
def global_stream(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Lend torch's global generators a stream of our own and give them back as they were.

    For code that offers no generator argument: parameter initialisation, ``nn.Dropout`` inside a model.
    """
    device = torch.device(device)
    devices = []
    if device.type == "cuda":
        devices = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=devices):
        value = derive_seed(seed, *purpose)
        torch.default_generator.manual_seed(value)
        if devices:
            torch.cuda.default_generators[devices[0]].manual_seed(value)
        yield


@dataclass(frozen=True)
class SampleDraw:
    """Random numbers that belong to (seed, epoch, sample), drawn for a whole batch at once on any device.

    Args:
        seed: The trial's seed.
        epoch: Counted from 0.

    Example:
        >>> draw = SampleDraw(seed=0, epoch=2)
        >>> both = draw.uniform(torch.tensor([7, 3]), 2, purpose="crop")
        >>> torch.equal(both[1:], draw.uniform(torch.tensor([3]), 2, purpose="crop"))
        True
    """

    seed: int
    epoch: int

    def uniform(self, index: Tensor, count: int, *, purpose: str) -> Tensor:
        """Draw ``count`` numbers in [0, 1) per sample.

        A counter-based generator (SplitMix64's output function over a key of seed, epoch and purpose and a
        counter of sample and position): the same bits on every device.

        Args:
            index: Sample indices, int64, [B].
            count: Numbers per sample.
            purpose: What they are for; two purposes never share numbers.

        Returns:
            float32, [B, count], on the device of ``index``.
        """
        key = derive_seed(self.seed, "sample", self.epoch, purpose)
        position = torch.arange(count, device=index.device, dtype=torch.int64)
        bits = _mix(_mix(index.to(torch.int64) ^ _signed(key))[:, None] + position * _signed(_GOLDEN))
        return (_shift_right(bits, 40)).to(torch.float32) * 2.0**-24

    def integers(self, index: Tensor, high: int, count: int, *, purpose: str) -> Tensor:
        """Draw ``count`` integers in [0, high) per sample: int64, [B, count]."""
        return (self.uniform(index, count, purpose=purpose) * high).long().clamp_(max=high - 1)

    def generator(self, index: int, *, purpose: str) -> torch.Generator:
        """Return a CPU generator for one sample, for code that wants one."""
        return stream(self.seed, "sample", self.epoch, purpose, index)


_GOLDEN = 0x9E3779B97F4A7C15


def _signed(value: int) -> int:
    """Read 64 bits as two's complement, which is what int64 tensors compute in."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift without dragging the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)
