"""Fetching, verifying and unpacking, from a server on this machine."""

import functools
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from regathlon_data import (
    DataError,
    data_root,
    download,
    fetch,
    is_present,
    missing_files,
    registry,
    require,
    store,
    verify,
)

CONTENT = bytes(range(256)) * 3000


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; knows ranges, and can hang up early or hide the length."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        options = self.server.options
        path = Path(self.translate_path(self.path))
        asked = self.headers.get("Range")
        options.requests.append((self.path, asked))
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        if asked and options.ranges:
            body = body[int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) :]
            self.send_response(206)
        else:
            self.send_response(200)
        if options.tell_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: options.hang_up_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    options = SimpleNamespace(requests=[], ranges=True, tell_length=True, hang_up_after=None)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    httpd.options = options
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield SimpleNamespace(folder=folder, url=f"http://127.0.0.1:{httpd.server_port}", options=options)
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """Make manifests of data sets for the length of a test."""
    known = {}

    def describe(*files, name="toy"):
        raw = {
            "name": name,
            "version": 1,
            "title": "A toy",
            "licence": "CC0-1.0",
            "citation": "@misc{toy}",
            "home": "https://example.org",
            "files": list(files),
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        known[name] = registry.read_manifest(path)

    for module in (store, download):
        monkeypatch.setattr(module, "manifest", lambda name: known[name])
    return describe


def entry(path, content=CONTENT, **more):
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **more}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def toy(server, describe):
    (server.folder / "a.bin").write_bytes(CONTENT)
    describe(entry("toy/a.bin", urls=[f"{server.url}/a.bin"]))


def quietly(*args, **keywords):
    return fetch(*args, notify=lambda message: None, **keywords)


def leftovers(root):
    return sorted(path.name for path in root.rglob("*") if path.name.startswith("."))


def test_the_data_root_is_what_is_said_first(monkeypatch, tmp_path):
    monkeypatch.setenv("REGATHLON_DATA", str(tmp_path))
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root() == tmp_path
    monkeypatch.delenv("REGATHLON_DATA")
    assert "regathlon" in data_root().parts


def test_what_is_missing_is_fetched_once(toy, root, server, capsys):
    assert missing_files("toy", root) == ("toy/a.bin",)
    heard = []
    assert fetch("toy", root, progress=lambda *event: heard.append(event)) == root
    assert (root / "toy/a.bin").read_bytes() == CONTENT
    assert is_present("toy", root)
    assert verify("toy", root) == ()
    assert heard[-1] == ("toy/a.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
    printed = capsys.readouterr()
    assert "CC0-1.0" in printed.err
    assert printed.out == ""
    fetch("toy", root)
    assert len(server.options.requests) == 1
    assert capsys.readouterr().err == ""


def test_missing_data_names_the_command_that_gets_it(toy, root):
    with pytest.raises(DataError, match=r"there is no toy/a\.bin\. Get it with: regathlon data fetch toy"):
        require("toy", root)
    quietly("toy", root)
    assert require("toy", root) == root


def test_mirrors_are_tried_in_order(server, describe, root):
    (server.folder / "good.bin").write_bytes(CONTENT)
    (server.folder / "page.html").write_bytes(b"<html>moved</html>")
    (server.folder / "damaged.bin").write_bytes(CONTENT[::-1])
    urls = [
        f"{server.url}/{name}" for name in ("none.bin", "page.html", "damaged.bin", "good.bin", "never.bin")
    ]
    describe(entry("a.bin", urls=urls))
    quietly("toy", root)
    assert (root / "a.bin").read_bytes() == CONTENT
    assert [path for path, _ in server.options.requests] == [
        "/none.bin",
        "/page.html",
        "/damaged.bin",
        "/good.bin",
    ]
    assert leftovers(root) == []


def test_when_all_mirrors_fail_each_says_why(server, describe, root):
    (server.folder / "damaged.bin").write_bytes(CONTENT[::-1])
    describe(entry("a.bin", urls=[f"{server.url}/none.bin", f"{server.url}/damaged.bin"]))
    with pytest.raises(DataError, match=r"a\.bin could not be fetched.*none\.bin.*404.*damaged\.bin.*hash"):
        quietly("toy", root)
    assert not (root / "a.bin").exists()


def test_an_interrupted_download_goes_on_where_it_stopped(toy, root, server):
    server.options.hang_up_after = 300_000
    with pytest.raises(DataError, match=f"ended after 300000 of {len(CONTENT)} bytes"):
        quietly("toy", root)
    assert not (root / "toy/a.bin").exists()
    server.options.hang_up_after = None
    quietly("toy", root)
    assert [asked for _, asked in server.options.requests] == [None, "bytes=300000-"]
    assert (root / "toy/a.bin").read_bytes() == CONTENT
    assert leftovers(root) == []


def test_a_server_without_ranges_begins_again(toy, root, server):
    server.options.hang_up_after, server.options.ranges = 1000, False
    with pytest.raises(DataError):
        quietly("toy", root)
    server.options.hang_up_after = None
    quietly("toy", root)
    assert (root / "toy/a.bin").read_bytes() == CONTENT


def test_a_server_that_tells_no_length(toy, root, server):
    server.options.tell_length = False
    quietly("toy", root)
    assert (root / "toy/a.bin").read_bytes() == CONTENT


def test_damage_is_found_named_and_repaired(toy, root):
    quietly("toy", root)
    (root / "toy/a.bin").write_bytes(CONTENT[:-1] + b"\0")
    (problem,) = verify("toy", root)
    assert str(problem).startswith("toy/a.bin: damaged: SHA-256 is ")
    (root / "toy/a.bin").write_bytes(b"short")
    (problem,) = verify("toy", root)
    assert str(problem) == f"toy/a.bin: damaged: 5 bytes instead of {len(CONTENT)}"
    quietly("toy", root)
    assert verify("toy", root) == ()
    (root / "toy/a.bin").unlink()
    (problem,) = verify("toy", root)
    assert str(problem) == "toy/a.bin: missing"


def test_what_cannot_be_downloaded_says_where_to_get_it(describe, root):
    describe(entry("big/a.bin"))
    with pytest.raises(
        DataError, match=r"Get it from https://example\.org and put it under .* as big/a\.bin"
    ):
        quietly("toy", root)


def test_a_folder_that_cannot_be_made_is_one_message(toy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        quietly("toy", tmp_path / "file")


def test_embedded_data_needs_nothing(tmp_path, capsys):
    assert fetch("digits", tmp_path) == tmp_path
    assert verify("digits", tmp_path) == ()
    assert capsys.readouterr().err == ""


# ---- archives ----------------------------------------------------------------------------------------------


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(members, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in members.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


MEMBERS = {
    "images/0/a.png": b"pixels",
    "images/1/b.png": b"more pixels",
    "labels.csv": b"0,1",
    "README": b"no",
}


@pytest.mark.parametrize("pack", [zipped, tarred, functools.partial(tarred, mode="w:xz")])
def test_archives_leave_what_their_manifest_promises(pack, server, describe, root):
    packed = pack(MEMBERS)
    (server.folder / "a.archive").write_bytes(packed)
    contents = ["images", {"path": "labels.csv", "bytes": 3, "sha256": hashlib.sha256(b"0,1").hexdigest()}]
    describe(entry("toy/a.archive", packed, urls=[f"{server.url}/a.archive"], contents=contents))
    assert missing_files("toy", root) == ("toy/images", "toy/labels.csv")
    quietly("toy", root)
    assert (root / "toy/images/1/b.png").read_bytes() == b"more pixels"
    assert sorted(path.name for path in (root / "toy").iterdir()) == ["images", "labels.csv"]
    assert verify("toy", root) == ()
    (root / "toy/labels.csv").write_bytes(b"0,2")
    assert [problem.path for problem in verify("toy", root)] == ["toy/labels.csv"]


def test_a_users_own_copy_is_left_alone(server, describe, root):
    packed = zipped(MEMBERS)
    (server.folder / "a.zip").write_bytes(packed)
    describe(entry("a.zip", packed, urls=[f"{server.url}/a.zip"], contents=["images", "labels.csv"]))
    (root / "images").mkdir(parents=True)
    (root / "images/own.png").write_bytes(b"mine")
    quietly("toy", root)
    assert [path.name for path in (root / "images").iterdir()] == ["own.png"]
    assert (root / "labels.csv").read_bytes() == b"0,1"


def test_an_archive_that_lacks_what_was_promised_changes_nothing(server, describe, root):
    packed = zipped({"other.txt": b"x"})
    (server.folder / "a.zip").write_bytes(packed)
    describe(entry("a.zip", packed, urls=[f"{server.url}/a.zip"], contents=["images"]))
    with pytest.raises(DataError, match="has no images"):
        quietly("toy", root)
    assert missing_files("toy", root) == ("images",)
    assert leftovers(root) == []


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "packed",
    [
        zipped({"../escape.txt": b"x"}),
        zipped({"a/../../escape.txt": b"x"}),
        zipped({"/escape.txt": b"x"}),
        zipped({"..\\escape.txt": b"x"}),
        zipped({zip_link("link"): b"/etc", "link/escape.txt": b"x"}),
        tarred({"../escape.txt": b"x"}),
        tarred({"/escape.txt": b"x"}),
        tarred({link("link", ".."): b"", "link/escape.txt": b"x"}),
        tarred({link("link", "/etc/passwd"): b""}),
        tarred({link("hard", "../escape.txt", tarfile.LNKTYPE): b""}),
        tarred({link("device", "", tarfile.CHRTYPE): b""}),
    ],
)
def test_no_archive_leaves_its_folder(packed, tmp_path):
    from regathlon_data import extract

    archive = tmp_path / "bad.archive"
    archive.write_bytes(packed)
    inside = tmp_path / "a" / "inside"
    with pytest.raises(DataError, match="refused"):
        extract(archive, inside)
    outside = {path for path in tmp_path.rglob("*") if inside not in (path, *path.parents)}
    assert outside == {archive, tmp_path / "a"}


@pytest.mark.parametrize("content", [b"no archive at all", zipped(MEMBERS)[:60], tarred(MEMBERS)[:-30]])
def test_what_is_no_whole_archive_says_so(content, tmp_path):
    from regathlon_data import extract

    archive = tmp_path / "bad.archive"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"is no zip or tar|cannot be unpacked"):
        extract(archive, tmp_path / "inside")


def test_damage_inside_a_zip_is_found(tmp_path):
    from regathlon_data import extract

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.bin", b"precious bytes")
    archive = tmp_path / "a.zip"
    archive.write_bytes(buffer.getvalue().replace(b"precious", b"worthles"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(archive, tmp_path / "inside")
