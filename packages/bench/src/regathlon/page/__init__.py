"""``regathlon report DIR --html``: a run as one self-contained file, for a browser without a network."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from regathlon.analysis import Analysis
from regathlon.files import explained, write_text
from regathlon.results import Results


def write_page(results: Results, analysis: Analysis, file: Path) -> None:
    """Write a run's page.

    Args:
        results: Of a run.
        analysis: Of the same run.
        file: Where to; its folder is made.

    Raises:
        UserError: The file cannot be written.
    """
    text = page(results, analysis)
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text, durable=False)


def page(results: Results, analysis: Analysis) -> str:
    """Return a run's page as HTML.

    Its content-security policy allows nothing but its own style sheet, its own script (both by their hash) and
    pictures within the file: whatever a name or a message holds, nothing is loaded and nothing else runs.

    Args:
        results: Of a run.
        analysis: Of the same run.
    """
    import jinja2

    from regathlon.page.content import content
    from regathlon.page.text import breaks, json_for_script, shown

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("regathlon.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breaks"] = breaks
    made = content(results, analysis)
    style = f"{_asset('page.css')}\n{made.style_sheet}\n"
    script = _asset("page.js")
    return environment.get_template("page.html").render(
        page=made,
        style=style,
        script=script,
        policy="; ".join(
            (
                "default-src 'none'",
                f"style-src '{_hash(style)}'",
                f"script-src '{_hash(script)}'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        details=json_for_script(made.details),
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _asset(name: str) -> str:
    return (resources.files("regathlon.page") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what a content-security policy calls an inline element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
