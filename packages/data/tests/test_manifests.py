"""Manifests: what ships is complete, and what is wrong says so."""

import dataclasses
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import yaml

from regathlon_data import DataError, load_digits, manifest, manifest_names, manifests, registry, split_digits

GOOD = {
    "name": "toy",
    "version": 3,
    "title": "A toy",
    "licence": "MIT",
    "citation": "@misc{toy}",
    "home": "https://example.org",
    "files": [
        {"path": "toy/a.bin", "sha256": "0" * 64, "bytes": 5, "urls": ["https://example.org/a.bin"]},
        {
            "path": "toy/b.zip",
            "sha256": "1" * 64,
            "bytes": 7,
            "contents": ["images", {"path": "labels.csv", "bytes": 2, "sha256": "2" * 64}],
        },
    ],
    "splits": {"train": 10, "test": 2},
    "statistics": {"classes": 2},
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        raw = {key: value for key, value in (GOOD | changes).items() if value is not ...}
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


def test_every_shipped_manifest_is_whole():
    assert set(manifests()) == set(manifest_names())
    for name, described in manifests().items():
        assert described.name == name
        assert described.citation.startswith("@")
        assert described.home.startswith("https://")


def test_the_embedded_sets_of_the_tasks_are_described():
    wanted = {"digits", "digit-scenes", "digit-domains", "digit-graph", "karate", "atlas", "shapes"}
    assert wanted <= set(manifest_names())
    assert all(manifest(name).embedded for name in wanted)


def test_the_digits_are_as_their_manifest_says():
    described = manifest("digits")
    assert described.area == "vision"
    assert {split: len(index) for split, index in split_digits().items()} == dict(described.splits)
    digits = load_digits()
    assert digits.images.shape[1:] == (described.statistics["height"], described.statistics["width"])
    assert len(set(digits.labels.tolist())) == described.statistics["classes"]


def test_a_manifest_is_read(write):
    described = registry.read_manifest(write())
    assert (described.name, described.version, described.embedded) == ("toy", 3, False)
    assert described.files[0].urls == ("https://example.org/a.bin",)
    assert [content.path for content in described.files[1].contents] == ["toy/images", "toy/labels.csv"]
    assert described.download_bytes == 12
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.version = 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titel": "x"}, "no entry 'titel'. Did you mean 'title'"),
        ({"title": ...}, "needs the entry 'title'"),
        ({"title": 5}, "title must be text"),
        ({"version": 0}, "version must be a whole number above 0"),
        ({"version": True}, "version must be a whole number above 0"),
        ({"version": "1"}, "version must be a whole number above 0"),
        ({"name": "tin"}, "file is called toy.yaml"),
        ({"files": []}, "either embedded or has files"),
        ({"embedded": True}, "either embedded or has files"),
        ({"files": "a.bin"}, "files must be a list"),
        ({"files": ["a.bin"]}, "A file is a mapping, not str"),
        ({"files": [GOOD["files"][0] | {"sha256": "abc"}]}, "64 lower-case hexadecimal digits"),
        ({"files": [GOOD["files"][0] | {"bytes": -1}]}, "bytes must be a whole number"),
        ({"files": [GOOD["files"][0] | {"path": "../a.bin"}]}, "must be relative"),
        ({"files": [GOOD["files"][0] | {"path": "/a.bin"}]}, "must be relative"),
        ({"files": [GOOD["files"][0] | {"urls": ["example.org/a"]}]}, "must begin with https:"),
        ({"files": [GOOD["files"][1] | {"contents": ["../x"]}]}, "must be relative"),
        ({"splits": {"train": "many"}}, "splits.train must be a number"),
    ],
)
def test_a_wrong_manifest_is_one_message_with_its_file(write, changes, message):
    path = write(**changes)
    with pytest.raises(DataError) as raised:
        registry.read_manifest(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_file_without_addresses_needs_no_checksum_and_one_with_them_does(write):
    described = registry.read_manifest(write(files=[{"path": "toy/a.bin"}]))
    assert (described.files[0].sha256, described.files[0].bytes, described.download_bytes) == (None, None, 0)
    for known in ({"sha256": "0" * 64}, {"bytes": 5}):
        with pytest.raises(DataError, match=r"toy\.yaml: .*(bytes|sha256)"):
            registry.read_manifest(write(files=[{"path": "a", "urls": ["https://example.org/a"], **known}]))


def test_what_is_no_yaml_says_so(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text("name: [")
    with pytest.raises(DataError, match="Cannot be read"):
        registry.read_manifest(path)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(DataError, match=r"no data set 'digts'\. Did you mean 'digits'"):
        manifest("digts")


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """A package of someone else that brings manifests through the entry point."""

    def install(name, **changes):
        folder = tmp_path / "their_data" / "manifests"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(GOOD | {"name": name} | changes))
        monkeypatch.syspath_prepend(tmp_path)
        ours = list(registry.entry_points(group=registry.GROUP))
        theirs = EntryPoint("theirs", "their_data.manifests", registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [*ours, theirs])
        registry._sources.cache_clear()
        manifest.cache_clear()

    yield install
    monkeypatch.undo()
    registry._sources.cache_clear()
    manifest.cache_clear()


def test_third_parties_add_theirs(third_party):
    third_party("toy")
    assert manifest("toy").title == "A toy"
    assert "digits" in manifest_names()


def test_two_packages_with_one_name_are_told_apart(third_party):
    third_party("digits")
    with pytest.raises(DataError, match="Two packages bring the data set 'digits'"):
        manifest("digits")


def test_an_entry_point_without_package_is_named(monkeypatch):
    broken = EntryPoint("broken", "no_such_package_at_all", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken])
    registry._sources.cache_clear()
    try:
        with pytest.raises(DataError, match=r"'broken'.*'no_such_package_at_all'"):
            manifest_names()
    finally:
        registry._sources.cache_clear()


def test_reading_a_manifest_imports_nothing_heavy():
    code = (
        "import sys, regathlon_data; regathlon_data.manifest('digits'); regathlon_data.is_present('digits');"
        "print(sorted({'torch', 'numpy', 'pooch', 'requests'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
