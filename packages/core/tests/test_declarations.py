"""Declarations: how they are written, when they refuse, how several act together; and errors in words."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from regathlon_core import RegularizerSettings, Stage, UserError, check_composition
from regathlon_core.errors import nearest, unknown
from regathlon_core.notation import parse_one
from regathlon_core.settings import ModelSettings
from regathlon_core.testing import TOY_TASKS


@dataclass(frozen=True)
class Sample(RegularizerSettings):
    """A sample."""

    name: ClassVar[str] = "sample"
    summary: ClassVar[str] = "a sample"
    implementation: ClassVar[str] = "math:sqrt"
    stage: ClassVar[Stage] = Stage.INPUT
    p: float = 0.5
    count: int = 3
    adaptive: bool = False
    mode: str = "fixed"
    limit: float | None = None
    where: tuple[str, ...] = ()


def of_stage(name: str, stage: Stage) -> Sample:
    return type("Declared", (Sample,), {"name": name, "stage": stage})()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Sample(), "sample"),
        (Sample(p=0.1), "sample(p=0.1)"),
        (Sample(count=5, adaptive=True), "sample(count=5, adaptive=true)"),
        (Sample(limit=1e-05, mode="free"), "sample(mode=free, limit=1e-05)"),
        (Sample(where=("layer3", "layer4")), "sample(where=[layer3, layer4])"),
        (Sample(where=("layer4.*", "a, b")), 'sample(where=["layer4.*", "a, b"])'),
        (Sample(mode="true"), 'sample(mode="true")'),
    ],
)
def test_a_declaration_is_written_as_a_suite_would_and_reads_back(settings: Sample, text: str) -> None:
    assert str(settings) == text
    call = parse_one(text, kind="sample")
    assert (call.name, Sample(**call.values(Sample))) == ("sample", settings)


def test_a_description_has_every_setting_and_the_version() -> None:
    assert Sample(p=0.1).describe() == {
        "name": "sample",
        "version": 1,
        "settings": {"p": 0.1, "count": 3, "adaptive": False, "mode": "fixed", "limit": None, "where": ()},
    }


def test_an_implementation_is_found_by_its_name() -> None:
    assert Sample.load()(4.0) == 2.0


def test_a_task_that_lacks_what_is_needed_is_refused_in_words() -> None:
    needy = type("Needy", (Sample,), {"needs": frozenset({"domains", "grid_inputs"})})()
    by_name = {task.name: task for task in TOY_TASKS}
    assert needy.refusal(by_name["graphs/toy"]) == (
        "sample needs training samples from several named domains and inputs on a regular grid, "
        "[B, C, *spatial], which graphs/toy does not offer"
    )
    assert Sample().refusal(by_name["graphs/toy"]) is None
    assert by_name["graphs/toy"].area == "graphs"
    assert by_name["graphs/toy"].grid() == (by_name["graphs/toy"],)


@dataclass(frozen=True)
class Large(ModelSettings):
    """A model that needs more than its package brings."""

    name: ClassVar[str] = "large"
    summary: ClassVar[str] = "large"
    implementation: ClassVar[str] = "nowhere:never"
    requires: ClassVar[Mapping[str, str]] = {"dataclasses": "python", "no_such_module": "sample[large]"}


def test_a_model_says_which_module_it_lacks_before_anything_is_imported() -> None:
    wanted = "large needs no_such_module, which is not installed: pip install 'sample[large]'"
    assert Large().missing() == wanted
    with pytest.raises(UserError, match=re.escape(wanted)):
        Large().build(TOY_TASKS[0].build())


def test_parts_act_in_the_order_of_their_stages_however_they_are_given() -> None:
    parts = [of_stage(stage.name.lower(), stage) for stage in Stage]
    extra = of_stage("another_feature", Stage.FEATURE)
    ordered = check_composition([*reversed(parts), extra])
    assert [part.stage for part in ordered] == sorted(part.stage for part in [*parts, extra])


@pytest.mark.parametrize(
    ("stage", "why"), [(Stage.MIX, "both mix samples"), (Stage.LOSS, "both make the step's loss")]
)
def test_two_that_cannot_act_together_are_named(stage: Stage, why: str) -> None:
    with pytest.raises(UserError, match=f"one and two cannot be combined: {why}"):
        check_composition([of_stage("one", stage), of_stage("mid", Stage.FEATURE), of_stage("two", stage)])


def test_one_regularizer_twice_is_refused() -> None:
    with pytest.raises(UserError, match="sample stands twice"):
        check_composition([Sample(p=0.1), Sample(p=0.2)])


def test_errors_name_the_place_once() -> None:
    error = UserError("wrong", where="suite.yaml:3")
    assert str(error) == "suite.yaml:3: wrong"
    assert error.at("elsewhere") is error
    assert str(UserError("wrong").at("suite.yaml:4")) == "suite.yaml:4: wrong"


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("dropblok", ["dropblock", "cutmix"], "Did you mean 'dropblock'?"),
        ("Drop-Block", ["drop_block", "cutmix"], "Did you mean 'drop_block'?"),
        ("zzz", ["one", "two"], "Valid: 'one', 'two'."),
        ("zzz", [f"n{i:02}" for i in range(20)], "'n11', ..."),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(name: str, choices: list[str], hint: str) -> None:
    message = str(unknown("regularizer", name, choices, listing="regathlon list regularizers"))
    assert message.startswith(f"There is no regularizer {name!r}. ")
    assert hint in message
    assert message.endswith("(All of them: regathlon list regularizers)")


def test_nearest_is_best_first_and_empty_when_nothing_is_near() -> None:
    assert nearest("cutmx", ["mixup", "cutmix", "cutout"])[0] == "cutmix"
    assert nearest("xyz", ["mixup"]) == []
    assert str(unknown("thing", "a", [])) == "There is no thing 'a'."


def test_importing_the_package_and_its_declarations_imports_no_torch() -> None:
    code = (
        "import sys, regathlon_core\n"
        "from regathlon_core import RegularizerSettings, Recipe, Budget, UserError, check_composition\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert 'DropBlock' in dir(regathlon_core)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_keyword_is_a_type_error() -> None:
    from regathlon_core import DropBlock, DropBlockSettings

    wrong: Any = {"probability": 0.1}
    with pytest.raises(TypeError, match="probability"):
        DropBlock(**wrong)
    with pytest.raises(TypeError, match="either a settings object or keywords"):
        DropBlock(DropBlockSettings(), p=0.1)
