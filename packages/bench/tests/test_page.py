"""The page as text: what it says, what it keeps to itself, and how it stands up to what runs may hold."""

import csv
import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regathlon.analysis import analyze
from regathlon.cli import main
from regathlon.leaderboard import Row
from regathlon.page import charts, page
from regathlon.page.curves import curve, training_loss, validation
from regathlon.page.looks import looks
from regathlon.page.pictures import COUNT, gallery
from regathlon.page.svg import Charts
from regathlon.papers import COLUMNS, read_paper
from regathlon.results import Outcome, read_results
from regathlon.store import RunFolder

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"'><svg onload=alert(3)>",
    "</script><b>&amp;",
    "two\nlines\ttab",
    "Ж 名前 مرحبا \u202egnp.exe",
    "\x00\x1b[31mred\ud800",
    "{{ 7*7 }}{% raw %}$x^2$",
)


class Elements(HTMLParser):
    """Every element with its attributes and the text directly in it."""

    VOID = ("meta", "link", "img", "input", "br", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes), []))
        if tag not in self.VOID:
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes), []))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.found[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open[-1]][2].append(data)

    def of(self, tag: str) -> Iterator[tuple[dict[str, str | None], str]]:
        for name, attributes, text in self.found:
            if name == tag:
                yield attributes, "".join(text)


def made_page(folder: Path) -> str:
    results = read_results(folder)
    return page(results, analyze(results))


def told(text: str) -> str:
    """Everything that can be read, without the data for the script."""
    without = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", without.replace("<wbr>", "")))


def details(text: str) -> dict:
    (found,) = (data for attributes, data in Elements(text).of("script") if attributes.get("id") == "details")
    return json.loads(found)


GRID = {
    ("vision/a", "none"): {0: 0.8, 1: 0.81, 2: 0.79},
    ("vision/a", "cutmix"): {0: 0.85, 1: 0.86, 2: 0.84},
    ("graphs/b", "none"): {0: 0.5, 1: 0.52, 2: 0.51},
    ("graphs/b", "cutmix"): {0: "skipped", 1: "skipped", 2: "skipped"},
    ("graphs/b", "mixup"): {0: 0.4, 1: "failed", 2: "planned"},
}


def test_the_command_writes_the_page_and_says_where(made_run, capsys: pytest.CaptureFixture, tmp_path: Path):
    folder = made_run(GRID)
    assert main(["report", str(folder), "--html"]) == 0
    assert Path(capsys.readouterr().out.strip()) == folder / "report.html"
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["report", str(folder), "--out", str(tmp_path / "new" / "p.html")]) == 0
    assert (tmp_path / "new" / "p.html").is_file()
    (tmp_path / "blocked").write_text("")
    assert main(["report", str(folder), "--out", str(tmp_path / "blocked" / "p.html")]) == 3
    assert "blocked" in capsys.readouterr().err


def test_every_score_status_and_reason_is_there(made_run):
    text = told(made_page(made_run(GRID)))
    for words in ("0.8500 ± 0.0100", "0.5100 ± 0.0100", "cutmix needs more", "it went wrong", "not run yet"):
        assert words in text
    assert "vision/a (mlp)" in text
    assert "1 of 12 trials is not done yet" in text
    assert "1 trial failed" in text


def test_nothing_is_loaded_and_only_the_hashed_script_runs(made_run):
    text = made_page(made_run(GRID))
    parsed = Elements(text)
    (policy,) = (
        a["content"] for a, _ in parsed.of("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy

    def allowed(content: str) -> bool:
        return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy

    (style,) = (content for _, content in parsed.of("style"))
    assert allowed(style)
    scripts = list(parsed.of("script"))
    assert [attributes.get("type") for attributes, _ in scripts] == ["application/json", None]
    assert allowed(scripts[1][1])
    for tag, attributes, _ in parsed.found:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_names_are_text(made_run):
    every = " ".join(HOSTILE)
    folder = made_run(
        {
            (f"vision/{number}", method): {0: 0.1 * number, 1: 0.2, 2: 0.3}
            for number in (1, 2)
            for method in ("none", *map(str, range(len(HOSTILE))))
        }
    )
    plan = json.loads((folder / "plan.json").read_text())
    for cell in plan["cells"]:
        cell |= {"metric": every, "model": every, "dataset": every, "task": f"{cell['task']} {every}"}
        if cell["regularizer"] != "none":
            cell["regularizer"] = HOSTILE[int(cell["regularizer"])]
    plan |= {"suite": every, "title": every}
    (folder / "plan.json").write_text(json.dumps(plan))
    for result in folder.glob("trials/*/result.json"):
        changed = json.loads(result.read_text())
        for chosen in changed["selections"].values():
            chosen |= {split: {every: 0.5} for split in ("val", "test") if split in chosen}
        changed["environment"] = {"cpu": every, "device": every, "packages": {every: every}}
        result.write_text(json.dumps(changed))
        (result.parent / "log.txt").write_bytes(every.encode(errors="surrogatepass"))
    text = made_page(folder)
    parsed = Elements(text)
    tags = {tag for tag, _, _ in Elements(made_page(made_run(GRID, "plain"))).found}
    assert {tag for tag, _, _ in parsed.found} <= tags | {"details", "summary"}
    assert not any(name.startswith("on") for _, attributes, _ in parsed.found for name in attributes)
    assert len(list(parsed.of("script"))) == 2
    text.encode("utf-8")
    assert not set(text) & {"\x00", "\x1b", "\ud800", "\u202e"}
    (heading,) = (content for _, content in parsed.of("h1"))
    assert heading == every.replace("\u202e", "\ufffd").replace("\x1b[31m", "").replace(
        "\x00", "\ufffd"
    ).replace("\ud800", "\ufffd")
    assert len(details(text)["trials"]) == len(list(folder.glob("trials/*")))


def test_a_half_finished_damaged_and_mixed_run_says_so(made_run):
    folder = made_run(GRID)
    results = [file for file in sorted(folder.glob("trials/*/result.json")) if '"done"' in file.read_text()]
    results[0].write_text("{ not json")
    other = json.loads(results[1].read_text())
    other["environment"] = {**other.get("environment", {}), "torch": "2.11.0"}
    results[1].write_text(json.dumps(other))
    (folder / "suite.yaml").write_text(": : :")
    text = made_page(folder)
    said = told(text)
    assert "Before you read on" in said
    assert "1 result cannot be used" in said
    assert "different versions: torch" in said
    origins = {setting[3] for settings in details(text)["settings"] for setting in settings}
    assert origins == {"not known: suite.yaml cannot be read"}


def test_a_run_without_any_result_has_a_page(made_run):
    folder = made_run({("vision/a", "none"): {0: "planned"}, ("vision/a", "cutmix"): {0: "skipped"}})
    text = told(made_page(folder))
    assert "cutmix needs more" in text
    assert "1 planned" in text


def test_origins_of_settings(made_run):
    folder = made_run({("vision/a", "dropblock(p=0.2)"): {0: 0.5}})
    (folder / "suite.yaml").write_text(
        "tasks: [vision/a]\nrecipe: {momentum: 0.9}\nrecipes: {vision/a: {lr: 0.1}}\nbudgets: {vision/b: {epochs: 3}}\n"
    )
    plan = json.loads((folder / "plan.json").read_text())
    description = plan["cells"][0]["description"]
    description["recipe"] |= {"momentum": 0.9, "warmup": 0.0}
    description["regularizer"] = [
        {"name": "dropblock", "version": 1, "settings": {"p": 0.2, "block_size": 7}}
    ]
    (folder / "plan.json").write_text(json.dumps(plan))
    (found,) = details(made_page(folder))["settings"]
    origin = {(part, key): origin for part, key, _, origin in found}
    assert origin["recipe", "lr"] == "suite: recipes.vision/a.lr"
    assert origin["recipe", "momentum"] == "suite: recipe.momentum"
    assert origin["recipe", "warmup"] == "the task's own recipe"
    assert origin["recipe", "budget.epochs"] == "the task's own recipe"
    assert origin["regularizer dropblock", "p"] == "suite: regularizers"
    assert origin["regularizer dropblock", "block_size"] == "default"
    assert origin["model", "mlp"] == "the task's first model"
    assert origin["data set", "made"] == "manifest of the data set"


def test_logs_are_cut_to_whole_lines_at_their_end(made_run):
    folder = made_run({("vision/a", "none"): {0: 0.5}})
    (trial,) = folder.glob("trials/*")
    (trial / "log.txt").write_text("".join(f"line {number}\n" for number in range(10_000)))
    (found,) = details(made_page(folder))["trials"].values()
    assert found["cut"]
    assert found["log"].endswith("line 9999\n")
    assert all(re.fullmatch(r"line \d+", line) for line in found["log"].splitlines())


@pytest.fixture
def with_pictures(made_run) -> Callable[[int, int], Path]:
    """Return a function that makes a run in which every trial has pictures."""

    def make(count: int, side: int) -> Path:
        folder = made_run(
            {("vision/a", name): dict.fromkeys(range(2), 0.5) for name in ("none", "cutmix")},
            f"p{count}-{side}",
        )
        rng = np.random.default_rng(0)
        for trial in folder.glob("trials/*"):
            (trial / "pictures").mkdir()
            for number in range(count):
                image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(image).save(trial / "pictures" / f"{number}.png")
        return folder

    return make


def test_pictures_are_inlined_and_small(with_pictures):
    folder = with_pictures(1, 700)
    sources = [attributes["src"] or "" for attributes, _ in Elements(made_page(folder)).of("img")]
    assert len(sources) == 4
    for source in sources:
        head, _, data = source.partition(",")
        assert head in ("data:image/png;base64", "data:image/webp;base64")
        raw = b64decode(data, validate=True)
        assert len(raw) < (next(folder.glob("trials/*/pictures/0.png"))).stat().st_size / 4


def test_small_pictures_stay_as_they_are(with_pictures):
    folder = with_pictures(1, 8)
    originals = {file.read_bytes() for file in folder.glob("trials/*/pictures/*.png")}
    shown = gallery(read_results(folder).outcomes, RunFolder(folder)).pictures
    assert {b64decode((one.source or "").partition(",")[2]) for one in shown} == originals


def test_pictures_beyond_the_limit_are_counted_and_later_seeds_go_first(with_pictures):
    each = COUNT // 4 + 10
    folder = with_pictures(each, 4)
    found = gallery(read_results(folder).outcomes, RunFolder(folder))
    assert len(found.pictures) == COUNT
    assert sum(found.left_out.values()) == 40
    assert {one.outcome.cell["seed"] for one in found.pictures[: 2 * each]} == {0}
    assert "40 more of" in told(made_page(folder))


def test_a_damaged_picture_is_said_to_be(with_pictures):
    folder = with_pictures(1, 20)
    first = min(folder.glob("trials/*/pictures/0.png"))
    first.write_bytes(first.read_bytes()[:40])
    text = made_page(folder)
    assert "cannot be read" in told(text)
    assert len(list(Elements(text).of("img"))) == 3


def test_charts_are_themed_and_carry_no_inline_style():
    drawing = Charts()
    of = looks(["none", "a<b>"], "none")
    bars = [charts.Bar(of[name], name, 0.5, 0.4, 0.6, strong=True) for name in of]
    svg = drawing.svg(lambda: charts.intervals(bars, "x & <y>"), 'say "this" <b>')
    assert "style=" not in svg
    assert "#0000" not in svg
    assert "var(--c0)" in drawing.style_sheet
    assert "#" not in drawing.style_sheet
    assert 'data-series="1"' in svg
    assert "a&lt;b&gt;" in svg
    twice = drawing.svg(lambda: charts.intervals(bars, "x"), "again")
    ids = [set(re.findall(r'\bid="([^"]+)"', one)) for one in (svg, twice)]
    assert not ids[0] & ids[1]


def test_looks_differ_without_colour():
    found = looks(["none", *map(str, range(48))], "none")
    assert len({(look.color, look.marker, look.dash) for look in found.values()}) == 49
    few = list(looks(["none", *map(str, range(6))], "none").values())
    assert len({look.marker for look in few}) == 7


def test_curves_are_over_the_epochs_that_all_finished_trials_have():
    def outcome(identity: str, status: str, values: list) -> Outcome:
        history = [{"epoch": epoch + 1, "train_loss": 1.0, "val": {"accuracy": value}}
                   for epoch, value in enumerate(values)]  # fmt: skip
        return Outcome({"id": identity}, status, result={"history": history})

    trials = {
        "a": outcome("a", "done", [0.1, 0.2, None, 0.4]),
        "b": outcome("b", "done", [0.3, 0.4, 0.5]),
        "c": outcome("c", "failed", [9.0]),
    }
    row = object.__new__(Row)
    object.__setattr__(row, "trials", ("a", "b", "c"))
    (look,) = looks(["none"]).values()
    found = curve(row, trials, validation("accuracy"), look)
    assert found is not None
    assert (found.epochs, found.low, found.high) == ([1, 2], [0.1, 0.2], [0.3, 0.4])
    assert found.mean == pytest.approx([0.2, 0.3], rel=1e-12)
    assert curve(row, trials, validation("other"), look) is None
    assert curve(row, {}, training_loss, look) is None


def test_the_command_line_imports_neither_matplotlib_nor_jinja():
    import subprocess
    import sys

    code = "import sys, regathlon.cli; sys.exit(sum(name in sys.modules for name in ('matplotlib', 'jinja2', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_ledger_is_shown(made_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "toy.yaml").write_text(
        "paper: Toy & Co\ntitle: A toy\ncard: none\ndatasets: {Blobs: [made]}\nmodels: {MLP: mlp}\n"
        "metrics: {acc: {name: accuracy, scale: 100}}\n"
    )
    row = dict.fromkeys(COLUMNS, "") | {"table": "Table 1", "dataset": "Blobs", "model": "MLP", "method": "Plain",
                                        "metric": "acc", "value": "80.0", "protocol": "epochs=3 lr=0.2",
                                        "regularizer": "none", "misprint": "a digit"}  # fmt: skip
    with (tmp_path / "toy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(row)
    known = [read_paper(tmp_path / "toy.yaml")]
    monkeypatch.setattr("regathlon.ledger.papers", lambda: known)
    text = told(made_page(made_run(GRID)))
    for words in (
        "Toy &amp; Co, Table 1",
        "80.0",
        "80.00 ± 1.00 (3)",
        "not comparable",
        "lr: 0.2 printed, 0.1 here",
        "misprint: a digit",
    ):
        assert words in text
