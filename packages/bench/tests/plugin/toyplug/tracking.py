"""Trackers: one that writes down what it is told, and some that go wrong."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import ClassVar


class Witness:
    """Writes a line per thing that it is told."""

    needs: ClassVar[str] = "json"

    def __init__(self, target, folder, suite):
        self.path = Path(target) if target else folder / "witness.jsonl"

    def _write(self, *what):
        with self.path.open("a") as file:
            file.write(json.dumps(what) + "\n")

    def begin(self, cell):
        self._write("begin", cell["regularizer"], cell["seed"])
        return f"{cell['regularizer']}.{cell['seed']}"

    def record(self, name, step, values):
        self._write("record", name, step, sorted(values))

    def end(self, name, outcome, values):
        self._write("end", name, outcome.status, sorted(values))


class Faulty(Witness):
    """Fails at every record."""

    def record(self, name, step, values):
        raise ConnectionError("the server is gone")


class Leaving(Witness):
    """Takes its process down."""

    def begin(self, cell):
        os._exit(7)


class Hanging(Witness):
    """Never answers."""

    def begin(self, cell):
        threading.Event().wait()


class Lacking(Witness):
    """Needs what nobody has."""

    needs: ClassVar[str] = "nobody_has_this"
