"""The page in a real browser, from disk, without a network."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (uv sync --group browser)"
)
expect = playwright_api.expect
expect.set_options(timeout=120_000)  # machines may be slow; nothing waits that long that works
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)")

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=\"document.title='run'\">+</script><script>document.title='run'</script>"
METHODS = ("none", "dropblock(p=0.1)", "cutmix", HOSTILE)
TASKS = ("vision/first", "graphs/second", "points/third")
PICTURES = 1
SEEDS = 8  # enough for a claim: something is bold


def synthetic() -> ModuleType:
    """The writer of synthetic runs that the benchmark of the page has."""
    spec = importlib.util.spec_from_file_location(
        "synthetic_run", ROOT / "benchmarks" / "speed" / "synthetic_run.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page, as the command writes it."""
    run = synthetic().write_run(
        tmp_path_factory.mktemp("browser") / "run",
        TASKS,
        METHODS,
        seeds=SEEDS,
        epochs=8,
        pictures=PICTURES,
        side=400,
        failed=[("vision/first", "cutmix", 1)],
        skipped=[("graphs/second", "cutmix")],
        reason=f"RuntimeError: {HOSTILE}",
        title=HOSTILE,
    )
    command = [Path(sys.executable).with_name("regathlon"), "report", run, "--html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright_api.sync_playwright() as playwright:
        # Root has no sandbox in a container; the pages are our own.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        yield opened
        opened.close()


@dataclass
class Seen:
    """A tab, and what it did that it should not."""

    tab: object
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture
def look(browser, file: Path) -> Iterator:
    """Return a function that opens the page offline; whatever it requests or complains of fails the test."""
    opened: list[Seen] = []
    contexts = []

    def open_(url: str | None = None, **options: object):
        context = browser.new_context(offline=True, **options)
        context.set_default_timeout(120_000)
        contexts.append(context)
        seen = Seen(context.new_page())
        tab = seen.tab
        tab.on("request", lambda request: seen.requests.append(request.url))
        tab.on("console", lambda message: seen.errors.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: seen.errors.append(str(error)))
        tab.goto(url or file.as_uri())
        opened.append(seen)
        return tab

    yield open_
    for seen in opened:
        assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
        assert len([url for url in seen.requests if url.startswith("file:")]) == 1
        assert seen.errors == []
        assert seen.tab.evaluate("document.title").endswith("– Regathlon")
    for context in contexts:
        context.close()


def column(tab, table: str, index: int) -> list[str]:
    """The visible cells of a column, from top to bottom."""
    return tab.evaluate(
        "([table, index]) => [...document.querySelectorAll(`#${table} tbody tr:not([hidden])`)]"
        ".map((row) => row.cells[index].textContent.trim())",
        [table, index],
    )


def numbers(cells: list[str]) -> list[float]:
    return [float(re.match(r"[-+]?[\d.]+", cell)[0]) for cell in cells if re.match(r"[-+]?[\d.]", cell)]


def shown_alone(tab) -> str | None:
    """The series that charts do not set back; None where they show all alike."""
    rules = tab.evaluate("[...document.adoptedStyleSheets[0].cssRules].map((rule) => rule.selectorText)")
    assert len(rules) < 2
    return (
        re.fullmatch(r'\.chart \[data-series\]:not\(\[data-series="(\d+)"\]\)', rules[0])[1]
        if rules
        else None
    )


def test_every_picture_is_there(look):
    tab = look()
    trials = (
        len(TASKS) * len(METHODS) * SEEDS - SEEDS - 1
    )  # without the skipped cells and the one that failed
    images = tab.locator(".picture img")
    assert images.count() == trials * PICTURES
    widths = tab.evaluate(
        "Promise.all([...document.images].map((image) => image.decode().then(() => image.naturalWidth)))"
    )
    assert all(width == 320 for width in widths)
    charts = tab.evaluate(
        "[...document.querySelectorAll('section.task')].map((one) => one.querySelectorAll('.charts svg').length)"
    )
    assert charts == [4, 4, 4]


def test_charts_have_ink_and_known_colours(look):
    tab = look()
    painted = tab.evaluate(
        "[...document.querySelectorAll('.chart [data-series] path')].map((path) => getComputedStyle(path).stroke)"
    )
    assert painted
    assert all(color.startswith("rgb") for color in painted if color != "none")
    dead = tab.evaluate(
        "[...document.querySelectorAll('svg use')].filter((use) => !document.querySelector(use.getAttribute('href'))).length"
    )
    assert dead == 0
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_tables_sort_both_ways_by_numbers_and_words(look):
    tab = look()
    at_first = numbers(column(tab, "table-1", 1))
    assert at_first == sorted(at_first, reverse=True)
    head = tab.locator("#table-1 thead th").nth(1)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(column(tab, "table-1", 1)) == sorted(at_first)
    tab.locator("#table-1 thead th").nth(0).locator("button").click()
    assert head.get_attribute("aria-sort") is None
    names = column(tab, "table-1", 0)
    assert names == tab.evaluate(
        "(names) => names.sort(new Intl.Collator(undefined, {numeric: true}).compare)", names
    )


def test_what_has_no_value_stays_last_however_it_is_sorted(look):
    tab = look()
    head = tab.locator("#table-trials thead th", has_text="score").locator("button")
    for _ in range(2):
        head.click()
        assert column(tab, "table-trials", 5)[-1] == "–"
        assert "failed" in column(tab, "table-trials", 4)[-1]


def test_filters_filter(look):
    tab = look()
    said = tab.locator(".filter output")
    rows = len(column(tab, "table-trials", 0))
    tab.select_option("select[name=regularizer]", label="cutmix")
    expect(said).not_to_be_empty()
    assert set(column(tab, "table-trials", 2)) == {"cutmix"}
    assert column(tab, "table-overall", 0) == ["cutmix"]
    assert shown_alone(tab) == tab.locator("select[name=regularizer]").input_value()
    tab.select_option("select[name=task]", index=1)
    tab.select_option("select[name=status]", label="failed")
    # The page filters at its next frame. One section is left since the task was chosen: wait for the rows.
    expect(tab.locator("#table-trials tbody tr:not([hidden])")).to_have_count(1)
    expect(tab.locator("section.task:not([hidden])")).to_have_count(1)
    tab.click("button[type=reset]")
    expect(said).to_be_empty()
    assert len(column(tab, "table-trials", 0)) == rows
    tab.fill("input[type=search]", "SECOND dropblock")
    expect(said).not_to_be_empty()
    assert {task.split()[0] for task in column(tab, "table-trials", 1)} == {"graphs/second"}


def test_a_series_is_shown_alone_by_its_button(look):
    tab = look()
    button = tab.locator("#table-1 .series").first
    series = button.get_attribute("data-series")
    button.focus()
    tab.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert shown_alone(tab) == series
    tab.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert shown_alone(tab) is None


def test_a_trial_opens_and_closes_by_keyboard(look):
    tab = look()
    link = tab.locator("#table-trials tbody a").first
    link.focus()
    tab.keyboard.press("Enter")
    dialog = tab.locator("dialog#trial")
    dialog.wait_for(state="visible")
    text = dialog.inner_text()
    for words in ("Metrics by selection", "suite: recipe.lr", "the task's own recipe", "line 19", "torch"):
        assert words in text
    assert dialog.locator("img").count() == PICTURES
    tab.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    expect(link).to_be_focused()
    assert tab.evaluate("location.hash") == ""


def test_a_failed_trial_tells_why_and_what_is_hostile_stays_text(look, file: Path):
    tab = look()
    tab.locator("#table-trials tr[data-status=failed] a").click()
    body = tab.locator("dialog#trial")
    assert f"RuntimeError: {HOSTILE}" in body.inner_text()
    assert tab.locator("h1").inner_text() == HOSTILE
    assert "RuntimeError" in tab.locator("#table-missing").inner_text()
    assert HOSTILE in tab.locator("#table-missing").inner_text()
    assert tab.evaluate("document.querySelectorAll('img[onerror]').length") == 0
    url = tab.url
    again = look(url)
    again.locator("dialog#trial").wait_for(state="visible")


def test_colours_follow_the_system_and_the_switch(look):
    def background(tab) -> str:
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = look(color_scheme="light"), look(color_scheme="dark")
    assert background(light) != background(dark)
    before = background(light)
    light.locator(".theme input[value=dark]").check(force=True)
    assert background(light) == background(dark)
    light.locator(".theme input[value=auto]").check(force=True)
    assert background(light) == before
    dark.emulate_media(media="print")
    assert background(dark) == before


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_fits_its_window(look, width: int):
    tab = look(viewport={"width": width, "height": 800}, is_mobile=width < 500, has_touch=width < 500)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    small = tab.evaluate(
        "[...document.querySelectorAll('.charts text')].filter((text) => text.getBoundingClientRect().height < 9).length"
    )
    assert small == 0


def test_everything_can_be_reached_by_keyboard(look):
    tab = look()
    reached = set()
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.add(
            tab.evaluate(
                "(document.activeElement.name || document.activeElement.className || document.activeElement.tagName)"
            )
        )
    assert {"skip", "theme", "regularizer", "task", "status", "search", "series", "scroll"} <= reached


def test_it_prints(look):
    tab = look()
    pdf = tab.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    tab.emulate_media(media="print")
    assert not tab.locator(".filter").is_visible()
    assert tab.locator("#table-trials").is_visible()


def test_without_scripts_all_tables_are_there(look):
    tab = look(java_script_enabled=False)
    assert tab.locator(".filter").is_hidden()
    assert "Sorting, filtering" in tab.locator("noscript").inner_text()
    assert tab.locator("#table-trials tbody tr").count() == len(TASKS) * len(METHODS) * SEEDS - SEEDS
