"""The cards of the methods for domain generalization name every setting, and their code runs."""

import contextlib
import importlib.resources
import io
import re

import pytest

from regathlon_core import (
    CORALSettings,
    GroupDROSettings,
    IRMSettings,
    MetaGSNRSettings,
    MixStyleSettings,
    MixupDomainsSettings,
    MLDGSettings,
    RSCSettings,
    WeightAverageSettings,
)


@pytest.mark.parametrize(
    "settings",
    [
        RSCSettings,
        MixStyleSettings,
        IRMSettings,
        GroupDROSettings,
        CORALSettings,
        MLDGSettings,
        MetaGSNRSettings,
        MixupDomainsSettings,
        WeightAverageSettings,
    ],
    ids=lambda settings: settings.name,
)
def test_card(settings) -> None:
    card = (importlib.resources.files(settings.__module__.rpartition(".")[0]) / "card.md").read_text("utf-8")
    assert card.startswith(f"# {settings.name}\n")
    for field in settings().settings():
        assert f"| `{field}` |" in card, f"{settings.name}'s card says nothing of {field}"
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(compile(block, f"{settings.name}/card.md", "exec"), names)
