"""How settings are validated, and that what they write is read back."""

import dataclasses
from random import Random

import pytest

from regathlon import yaml_text
from regathlon.validation import build, settings
from regathlon_core.errors import UserError
from regathlon_core.notation import Word, parse_one
from regathlon_core.recipe import Budget, Recipe


def noise(text: str):
    from toyplug.settings import NoiseSettings

    return settings(NoiseSettings, parse_one(text, kind="regularizer"))


def words(random: Random, longest: int) -> str:
    """Return text of any characters that a word may have: what the notation uses itself, and beyond ASCII."""
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


SCALARS = """3 -0 007 +5 1e3 1.e-3 .5 -.5e+2 1_000 0x1f 1.2.3 e5 . true True tRUE FALSE on no ~ null NULL nUll .inf -.Inf .nan inf
"""


@pytest.mark.parametrize("text", SCALARS.split())
def test_words_are_read_as_yaml_reads_them(text):
    ours, yaml = Word(text).read(), yaml_text.scalar(text)
    assert type(ours) is type(yaml)
    assert repr(ours) == repr(yaml)


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


def test_recipes_are_checked_like_settings():
    assert build(Recipe, {"milestones": [0.5]}, what="recipe").milestones == (0.5,)
    assert dataclasses.replace(Recipe(), **{"clip_norm": 1.0}).clip_norm == 1.0
    with pytest.raises(UserError, match=r"recipe: lr must be a finite number of at least 0, not -1\.0"):
        build(Recipe, {"lr": -1}, what="recipe")
    with pytest.raises(UserError, match="recipe has no key 'learning_rate'"):
        build(Recipe, {"learning_rate": 1}, what="recipe")
    with pytest.raises(UserError, match="exactly one of epochs"):
        build(Budget, {"epochs": 1, "steps": 2}, what="budget")
