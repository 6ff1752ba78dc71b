"""Settings refuse what is out of range by name; cards say what they must and their code runs."""

import contextlib
import importlib.resources
import io
import re
from typing import Any

import pytest

from regathlon_core import (
    CutMixSettings,
    CutoutSettings,
    DistillationSettings,
    DropBlockSettings,
    DropoutSettings,
    LabelSmoothingSettings,
    MixupSettings,
    NoRegularizerSettings,
    RandomErasingSettings,
    RegularizerSettings,
    SpatialDropoutSettings,
    UserError,
    functional,
)

FIRST = [
    NoRegularizerSettings,
    DropoutSettings,
    SpatialDropoutSettings,
    DropBlockSettings,
    CutoutSettings,
    RandomErasingSettings,
    MixupSettings,
    CutMixSettings,
    LabelSmoothingSettings,
    DistillationSettings,
]
SECTIONS = [
    "What it does",
    "How to use",
    "Hyper-parameters",
    "Cost",
    "Composes with",
    "Deviations",
    "Citation",
]


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (DropoutSettings, "p", 1.01),
        (DropoutSettings, "p", float("nan")),
        (DropoutSettings, "p", "0.5"),
        (DropoutSettings, "where", "layer3"),
        (SpatialDropoutSettings, "p", -0.1),
        (SpatialDropoutSettings, "mode", "chanel"),
        (DropBlockSettings, "p", 2),
        (DropBlockSettings, "block_size", 0),
        (DropBlockSettings, "block_size", 2.5),
        (DropBlockSettings, "block_size", True),
        (DropBlockSettings, "schedule", "linaer"),
        (CutoutSettings, "size", -0.5),
        (CutoutSettings, "fill", float("inf")),
        (RandomErasingSettings, "p", 1.5),
        (RandomErasingSettings, "area", (0.4, 0.02)),
        (RandomErasingSettings, "area", (0.0, 0.4)),
        (RandomErasingSettings, "area", (0.5, 1.2)),
        (RandomErasingSettings, "aspect", (0.3,)),
        (RandomErasingSettings, "aspect", (0.3, float("inf"))),
        (MixupSettings, "alpha", -1.0),
        (CutMixSettings, "alpha", 0.0),
        (CutMixSettings, "p", 1.1),
        (LabelSmoothingSettings, "smoothing", 1.0),
    ],
)
def test_out_of_range_is_refused_by_name(settings: type[RegularizerSettings], field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        settings(**{field: value})
    assert settings.name in str(caught.value)
    assert field in str(caught.value)


def test_a_misspelt_choice_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'linear'"):
        DropBlockSettings(schedule="linaer")


@pytest.mark.parametrize("value", [0, 1])
def test_whole_numbers_are_numbers(value: int) -> None:
    assert DropoutSettings(p=value).p == value


@pytest.mark.parametrize("settings", FIRST, ids=lambda settings: settings.name)
def test_card(settings: type[RegularizerSettings]) -> None:
    package = settings.__module__.rpartition(".")[0]
    card = (importlib.resources.files(package) / "card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {settings.name}\n")
    assert re.findall(r"^## (.+)$", card, flags=re.MULTILINE) == SECTIONS
    assert "regathlon run" in card
    for field, default in settings().settings().items():
        assert f"| `{field}` |" in card, f"{settings.name}'s card says nothing of {field}"
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            row = next(line for line in card.splitlines() if line.startswith(f"| `{field}` |"))
            assert float(row.split("|")[3]) == default
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(compile(block, f"{settings.name}/card.md", "exec"), names)


def test_every_method_has_its_stateless_form() -> None:
    names = {settings.name for settings in FIRST} - {"none", "dropblock"} | {"drop_block"}
    assert names <= set(functional.__all__)
    assert all(callable(getattr(functional, name)) for name in functional.__all__)
