"""The grammar of names and settings, and how settings are validated."""

import contextlib
import dataclasses
from random import Random

import pytest

from regathlon.grammar import parse, parse_one, split_list
from regathlon.validation import build, settings
from regathlon_core.errors import UserError
from regathlon_core.recipe import Budget, Recipe


def noise(text: str):
    from toyplug.settings import NoiseSettings

    return settings(NoiseSettings, parse_one(text, kind="regularizer"))


def words(random: Random, longest: int) -> str:
    """Return text of any characters that a word may have: what the grammar uses itself, and beyond ASCII."""
    return "".join(random.choice("ab01 .,+=()[]{}'#:~-_/\\éλ") for _ in range(random.randrange(longest)))


@pytest.mark.parametrize("seed", range(20))
def test_what_settings_write_is_read_back_exactly(seed):
    from toyplug.settings import NoiseSettings

    random = Random(seed)
    for _ in range(20):
        written = NoiseSettings(
            scale=random.choice([random.random(), 10 ** random.uniform(-300, 0), 0.0, 1.0]),
            kind=random.choice(["normal", "uniform"]),
            axes=tuple(random.randint(-5, 5) for _ in range(random.randrange(4))),
            label=random.choice([words(random, 12), "true", "null", "1e-3", "a.b-c/d"]),
        )
        assert noise(str(written)) == written


@pytest.mark.parametrize("seed", range(6))
def test_lists_split_where_they_were_joined(seed):
    items = Random(seed).choices(
        ["none", "noise(scale=0.2)", "noise(axes=[1, 2], kind=uniform)", "a/b.c-d"], k=seed
    )
    assert split_list(", ".join(items)) == items


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_parsed_whole_or_refused(seed):
    random = Random(seed)
    for _ in range(20):
        text = words(random, 20)
        with contextlib.suppress(UserError):
            calls = parse(text, kind="regularizer")
            assert "+".join(call.text for call in calls).replace(" ", "") == text.replace(" ", "")


def test_composition_keeps_values_apart():
    first, second = parse("gradaug(n=3, widths=[0.8, 1e-1], where=[a, 'b c'])+cutmix", kind="regularizer")
    assert (first.name, second.name) == ("gradaug", "cutmix")
    assert first.arguments["widths"] == ["0.8", "1e-1"]
    assert first.arguments["where"] == ["a", "b c"]
    assert first.text == "gradaug(n=3, widths=[0.8, 1e-1], where=[a, 'b c'])"


def test_numbers_are_read_as_the_setting_wants_them():
    assert noise("noise(scale=1)").scale == 1.0
    assert type(noise("noise(scale=1)").scale) is float
    assert noise("noise(scale=1e-3)").scale == 0.001
    assert noise("noise(label=3)").label == "3"
    assert noise("noise(label=true)").label == "true"
    assert noise("noise(axes=[])").axes == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("noise(scal=0.1)", "noise has no key 'scal'. Did you mean 'scale'?"),
        ("noise(scale=much)", "noise: scale must be a number, not 'much'."),
        ('noise(scale="0.1")', "noise: scale must be a number, not '0.1'."),
        ("noise(scale=true)", "noise: scale must be a number, not True."),
        ("noise(scale=2)", "noise: scale must lie in [0, 1], not 2.0."),
        ("noise(scale=.nan)", "noise: scale must lie in [0, 1], not nan."),
        ("noise(axes=1)", "noise: axes must be a list, [a, b], not 1."),
        ("noise(axes=[0.5])", "noise: axes must be a whole number, not 0.5."),
        (
            "noise(kind=norml)",
            "noise: kind must be 'normal' or 'uniform', not 'norml'. Did you mean 'normal'?",
        ),
    ],
)
def test_a_wrong_setting_is_explained(text, said):
    with pytest.raises(UserError) as caught:
        noise(text)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a regularizer's name at the end"),
        ("noise(", "expected a setting as key=value at the end"),
        ("noise(0.5)", "expected a setting as key=value before '0.5)'"),
        ("noise(scale)", "settings are written key=value; 'scale' has no '='"),
        ("noise(scale=1, scale=2)", "'scale' stands twice"),
        ("noise(scale=1", "a value with commas needs quotes"),
        ("noise(label='x)", "the quote ' is not closed"),
        ("noise+", "expected a regularizer's name at the end"),
        ("noise cutmix", "did not expect 'cutmix'"),
    ],
)
def test_a_wrong_form_is_explained(text, said):
    with pytest.raises(UserError, match="cannot be read") as caught:
        parse(text, kind="regularizer")
    assert said in str(caught.value)


def test_models_and_tasks_do_not_compose():
    with pytest.raises(UserError, match="only regularizers compose"):
        parse_one("a+b", kind="task")


def test_recipes_are_checked_like_settings():
    assert build(Recipe, {"milestones": [0.5]}, what="recipe").milestones == (0.5,)
    assert dataclasses.replace(Recipe(), **{"clip_norm": 1.0}).clip_norm == 1.0
    with pytest.raises(UserError, match=r"recipe: lr must be a finite number of at least 0, not -1\.0"):
        build(Recipe, {"lr": -1}, what="recipe")
    with pytest.raises(UserError, match="recipe has no key 'learning_rate'"):
        build(Recipe, {"learning_rate": 1}, what="recipe")
    with pytest.raises(UserError, match="exactly one of epochs"):
        build(Budget, {"epochs": 1, "steps": 2}, what="budget")
