"""Data that may lie in one of several places."""

import hashlib

import pytest
import yaml

from regathlon_data import DataError, is_present, missing_files, registry, require, store, verify

CONTENT = b"images"


@pytest.fixture
def root(tmp_path, monkeypatch):
    raw = {
        "name": "toy",
        "version": 1,
        "title": "A toy",
        "licence": "CC0-1.0",
        "citation": "@misc{toy}",
        "home": "https://example.org",
        "files": [
            {
                "path": "TOY/all.bin",
                "sha256": hashlib.sha256(CONTENT).hexdigest(),
                "bytes": len(CONTENT),
                "also": ["toy/images/all.bin"],
            }
        ],
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(raw))
    described = registry.read_manifest(tmp_path / "toy.yaml")
    monkeypatch.setattr(store, "manifest", lambda name: described)
    return tmp_path / "data"


@pytest.mark.parametrize("place", ["TOY/all.bin", "toy/images/all.bin"])
def test_either_place_will_do(root, place):
    assert missing_files("toy", root) == ("TOY/all.bin",)
    with pytest.raises(DataError, match=r"there is no TOY/all\.bin"):
        require("toy", root)
    (root / place).parent.mkdir(parents=True)
    (root / place).write_bytes(CONTENT)
    assert is_present("toy", root)
    assert verify("toy", root) == ()
    (root / place).write_bytes(b"damage")
    (problem,) = verify("toy", root)
    assert "SHA-256" in problem.reason


def test_other_places_are_relative_too(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(
        "name: toy\nversion: 1\ntitle: A toy\nlicence: MIT\ncitation: '@misc{toy}'\nhome: https://example.org\n"
        "files:\n  - path: TOY\n    also: [../TOY]\n"
    )
    with pytest.raises(DataError, match=r"'\.\./TOY' must be relative"):
        registry.read_manifest(path)
