"""Files of weights: what declarations say of them, and how the kit brings them."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from regathlon_core import ModelSettings, UserError
from regathlon_core.notation import declared
from regathlon_core.testing import ToyImages
from regathlon_core.testing.cases import Case, weights_of
from regathlon_core.testing.trees import difference
from regathlon_core.weights import load_weights, read_weights


@dataclass(frozen=True)
class Begun(ModelSettings):
    """A model with a setting of every kind."""

    name: ClassVar[str] = "begun"
    summary: ClassVar[str] = "a model that begins with weights"
    implementation: ClassVar[str] = "math:sqrt"
    weight_files: ClassVar[tuple[str, ...]] = ("weights", "others")
    weights: str = ""
    others: str = ""
    depth: int = 3
    rate: float | None = None
    sizes: tuple[int, ...] = ()
    wide: bool = False


def test_files_are_known_by_their_contents_and_missing_ones_by_their_names(tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"abc")
    settings = Begun(weights=str(first), others=str(second))
    # The digest is that of FIPS 180-2's first example.
    digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert settings.describe()["settings"]["weights"] == digest
    assert settings.describe()["settings"]["others"] == str(second)
    assert settings.missing() == f"begun needs the weights {second}, and there is no such file"
    second.mkdir()
    assert settings.missing() == f"begun needs the weights {second}, and there is no such file"
    second.rmdir()
    second.write_bytes(b"abc")
    assert settings.missing() is None
    assert settings.describe()["settings"]["others"] == digest
    second.write_bytes(b"abcd")
    assert settings.describe()["settings"]["others"] not in (digest, str(second))
    assert Begun().missing() is None
    assert Begun().describe()["settings"]["weights"] == ""


def test_a_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.pt").write_bytes(b"abc")
    assert Begun(weights="~/a.pt").missing() is None
    assert Begun(weights="~/a.pt").describe()["settings"]["weights"].startswith("sha256:ba78")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("begun", Begun()),
        ("begun()", Begun()),
        (" begun( depth = 5, sizes=[1, 2], wide=true )", Begun(depth=5, sizes=(1, 2), wide=True)),
        ("begun(rate=1e-3)", Begun(rate=0.001)),
        ("begun(rate=2)", Begun(rate=2)),
        ("begun(rate=null, weights='a (1).pt')", Begun(weights="a (1).pt")),
    ],
)
def test_a_declaration_is_read_from_its_text(text, wanted):
    assert declared(text, [Begun], what="model") == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("begum", r"There is no model 'begum'\. Did you mean 'begun'\?"),
        ("begun(dept=5)", r"There is no setting of begun 'dept'\. Did you mean 'depth'\?"),
        ("begun(depth=5.5)", r"begun: depth cannot be 5\.5"),
        ("begun(depth=null)", "begun: depth cannot be None"),
        ("begun(rate=true)", "begun: rate cannot be True"),
        ("begun(wide=1)", "begun: wide cannot be 1"),
        ("begun(sizes=3)", "begun: sizes cannot be 3"),
        ("begun(sizes=[1, a])", "begun: sizes cannot be"),
        ("begun(weights=[3])", "begun: weights cannot be"),
        ("begun+begun", "joins 2 models by"),
        ("", "The model '' cannot be read: expected a model's name at the end"),
        ("begun(5)", "expected a setting as key=value before '5"),
        ("begun(depth=5", "expected ',' or"),
    ],
)
def test_what_is_no_declaration_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        declared(text, [Begun], what="model")


def test_weights_are_read_and_loaded(tmp_path):
    task = ToyImages()
    source, path = task.model(seed=1), tmp_path / "a.pt"
    torch.save(source.state_dict(), path)
    model = task.model(seed=0)
    kept = {
        name: value for name, value in read_weights(path).items() if not name.endswith("num_batches_tracked")
    }
    load_weights(model, kept, where=path)
    assert difference(source.state_dict(), model.state_dict()) is None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"a\.pt: The weights lack 'block1\.0\.weight' \(12 such names\)"):
        load_weights(model, {}, where=path)
    assert difference(before, model.state_dict()) is None


def test_the_kit_brings_files_that_are_named_and_missing(tmp_path):
    task = ToyImages()
    own = tmp_path / "own.pt"
    own.write_bytes(b"own")
    parts = (Begun(weights="nowhere.pt"), Begun(weights=str(own)), Begun())
    brought, kept, empty = (Case((), task)._with_weights(part) for part in parts)
    assert (kept, empty) == parts[1:]
    assert brought.weights == str(weights_of(task))
    assert difference(read_weights(weights_of(task)), task.model(seed=1).state_dict()) is None
