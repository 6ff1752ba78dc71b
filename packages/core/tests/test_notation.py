"""The notation of declarations: what is parsed, and what is refused in words."""

import contextlib
from random import Random

import pytest

from regathlon_core.errors import UserError
from regathlon_core.notation import parse, parse_one, split_list


def words(random: Random, longest: int) -> str:
    """Return text of any characters that a word may have: what the notation uses itself, and beyond ASCII."""
    return "".join(random.choice("ab01 .,+=()[]{}'#:~-_/\\éλ") for _ in range(random.randrange(longest)))


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
