"""Trial identity: what changes it, and what does not."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from regathlon import datasets
from regathlon.plan import Trial, make_plan
from regathlon.suite_files import load_suite
from regathlon_core.errors import UserError


def trial(suite_file, text="regularizers: [noise+slow]\nseeds: 1\n", **paths) -> Trial:
    return make_plan(load_suite(suite_file(f"tasks: [toy/blobs]\n{text}", **paths))).trials[0]


def test_the_order_of_a_composition_and_of_a_suite_do_not_matter(suite_file):
    turned = "seeds: [0]\nregularizers: [none, slow+noise+none]\nexclude: [{regularizer: none}]\n"
    assert trial(suite_file).id == trial(suite_file, turned, name="other").id


def test_an_explicit_default_is_the_default(suite_file):
    written = "regularizers: ['noise(scale=0.1)+slow(seconds=0.05)']\nseeds: 1\nrecipe: {lr: 0.05}\n"
    assert trial(suite_file, written).id == trial(suite_file).id


def test_neither_path_nor_process_nor_hash_seed_matters(suite_file, tmp_path):
    path = tmp_path / "elsewhere" / "b.yaml"
    path.parent.mkdir()
    path.write_text("tasks: [toy/blobs]\nregularizers: [noise+slow]\nseeds: 1\n")
    code = (
        "from pathlib import Path\n"
        "from regathlon.plan import make_plan\n"
        "from regathlon.suite_files import load_suite\n"
        f"print(make_plan(load_suite({str(path)!r}), Path('/other/data')).trials[0].id)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == trial(suite_file).id


def test_files_of_weights_are_known_by_their_contents(suite_file, tmp_path):
    files = [tmp_path / name for name in ("a.pt", "b.pt", "c.pt")]
    for file, contents in zip(files, (b"one", b"one", b"two"), strict=True):
        file.write_bytes(contents)
    texts = (
        "regularizers: ['distillation(teacher=linear, weights=\"{}\")']\nseeds: 1\n",
        "models: {{toy/blobs: ['linear(weights=\"{}\")']}}\nregularizers: [none]\nseeds: 1\n",
    )
    for text in texts:
        first, second, third = (trial(suite_file, text.format(file)) for file in files)
        assert first.id == second.id
        assert first.id != third.id
        assert Trial.from_record(json.loads(json.dumps(first.record()))) == first
        record = third.record()
        files[2].write_bytes(b"new")
        with pytest.raises(UserError, match="other files of weights"):
            Trial.from_record(record)
        files[2].write_bytes(b"two")


def test_everything_scientific_matters(suite_file, monkeypatch):
    from toyplug.settings import BlobsSettings, MlpSettings, NoiseSettings

    base = trial(suite_file)
    ids = [
        base.id,
        dataclasses.replace(base, seed=1).id,
        dataclasses.replace(base, task=BlobsSettings(spread=0.5)).id,
        dataclasses.replace(base, model=MlpSettings(width=9)).id,
        dataclasses.replace(base, regularizer=(NoiseSettings(),)).id,
        dataclasses.replace(base, regularizer=(NoiseSettings(scale=0.2), *base.regularizer[1:])).id,
        dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, lr=0.06)).id,
        dataclasses.replace(base, dataset_version=2).id,
    ]
    for declared in (BlobsSettings, MlpSettings, NoiseSettings):
        with monkeypatch.context() as patch:
            patch.setattr(declared, "version", 99)
            ids.append(base.id)
    assert len(set(ids)) == len(ids)


def test_the_data_sets_version_is_that_of_its_manifest():
    assert datasets.version("toy-files") == 2
    assert datasets.version("blobs") is None


def test_a_record_gives_the_trial_back(suite_file):
    written = (
        "regularizers: ['noise(scale=0.3, axes=[1, 2])+slow']\nseeds: [7]\nrecipe: {milestones: [0.3]}\n"
    )
    planned = trial(suite_file, written)
    assert Trial.from_record(planned.record()) == planned


def test_a_record_of_another_version_is_refused(suite_file, monkeypatch):
    from toyplug.settings import NoiseSettings

    record = trial(suite_file).record()
    monkeypatch.setattr(NoiseSettings, "version", 2)
    with pytest.raises(UserError, match="other versions"):
        Trial.from_record(record)


def test_folders_are_readable_and_unique(suite_file):
    record = trial(suite_file).record()
    assert record["folder"] == f"toy-blobs.mlp.noise+slow.s0.{record['id']}"
    assert Path(record["folder"]).name == record["folder"]
