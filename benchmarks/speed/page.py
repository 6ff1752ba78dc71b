"""The page of a large run: how long it takes to write, how large it is, how quick it is in a browser.

Needs playwright and a chromium for the last: `uv sync --group browser`, `apt-get install chromium`.

python benchmarks/speed/page.py --trials 1000 --assert-limits --json page.json
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from synthetic_run import write_run

SECONDS, MEGABYTES = 20.0, 10.0
"""What a page of 1,000 trials may take."""

CLICK = """name => {
  const head = [...document.querySelectorAll("#table-trials thead button")].find((one) => one.textContent === name);
  head.click();
  document.body.offsetHeight;  // lays the page out anew
}"""


def main() -> int:
    """Write a run, report it, open the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=2, help="per trial")
    parser.add_argument("--out", type=Path, help="keep the run and its page here")
    parser.add_argument(
        "--assert-limits", action="store_true", help=f"{SECONDS:g} s of CPU time, {MEGABYTES:g} MB"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="regathlon-page-"))
    seeds, methods = 5, 20
    tasks = [f"vision/task{number}" for number in range(max(given.trials // (seeds * methods), 1))]
    regularizers = ["none", *(f"dropblock(p=0.{number:02d}, block_size=3)" for number in range(1, methods))]
    write_run(folder / "run", tasks, regularizers, seeds, epochs=100, pictures=given.pictures, log_lines=60)

    page = folder / "report.html"
    started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [Path(sys.executable).with_name("regathlon"), "report", folder / "run", "--html", "--out", page]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "trials": len(tasks) * methods * seeds,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
        "megabytes": page.stat().st_size / 1e6,
        **in_browser(page),
    }
    print(json.dumps(figures, indent=1))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
    if given.out is None:
        shutil.rmtree(folder)
    within = figures["cpu_seconds"] < SECONDS and figures["megabytes"] < MEGABYTES
    return 0 if within or not given.assert_limits else 1


def in_browser(page: Path) -> dict[str, float]:
    """Return what the page's main thread works to load, sort, filter and open a trial, in milliseconds of CPU time."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return {}
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser)
        context = opened.new_context(offline=True)
        tab = context.new_page()
        session = context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            found = session.send("Performance.getMetrics")["metrics"]
            return 1000 * next(one["value"] for one in found if one["name"] == "TaskDuration")

        def cost(act: Callable[[], object]) -> float:
            before = busy()
            act()
            tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
            return round(busy() - before, 1)

        figures = {"load_ms": cost(lambda: tab.goto(page.as_uri()))}
        for name in ("task", "regularizer", "score"):
            figures[f"sort_by_{name}_ms"] = cost(lambda name=name: tab.evaluate(CLICK, name))
        figures["filter_ms"] = cost(lambda: tab.select_option("select[name=regularizer]", index=2))
        figures["open_trial_ms"] = cost(
            lambda: tab.evaluate("document.querySelector('#table-trials a').click()")
        )
        opened.close()
    return figures


if __name__ == "__main__":
    sys.exit(main())
