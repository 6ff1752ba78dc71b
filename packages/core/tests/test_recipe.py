"""Recipes and budgets refuse what cannot be meant, in words."""

from typing import Any

import pytest

from regathlon_core import Budget, Recipe, UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "sdg"}, "no optimizer 'sdg'. Did you mean 'sgd'?"),
        ({"schedule": "cosin"}, "no schedule 'cosin'. Did you mean 'cosine'?"),
        ({"precision": "bf32"}, "no precision 'bf32'. Did you mean"),
        ({"lr": -0.1}, "lr must be a finite number of at least 0, not -0.1"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"min_lr": float("inf")}, "min_lr must be"),
        ({"gamma": -1.0}, "gamma must be"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"eval_every": 0}, "eval_every must be at least 1, not 0"),
        ({"warmup": 1.0}, r"warmup is a fraction of the budget in \[0, 1\), not 1.0"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"momentum": 0.0}, "Nesterov's step needs a momentum above 0"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0 or null"),
        ({"milestones": (0.5, 1.0)}, "1.0 is not"),
    ],
)
def test_a_wrong_recipe_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "steps": 1}])
def test_a_budget_is_one_thing(given: dict[str, int]) -> None:
    with pytest.raises(UserError, match="exactly one of epochs, steps, seconds and flops"):
        Budget(**given)


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_a_budget_is_a_positive_whole_number(value: Any) -> None:
    with pytest.raises(UserError, match=f"A budget of {value} epochs cannot be trained"):
        Budget(epochs=value)


def test_the_rate_rises_from_zero_then_follows_its_schedule() -> None:
    recipe = Recipe(lr=0.4, warmup=0.2, min_lr=0.1)
    rates = [recipe.lr_at(step / 100) for step in range(100)]
    assert rates[0] == 0.0
    assert max(rates) == rates[20] == pytest.approx(0.4)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.25)
    assert recipe.lr_at(1.0) == pytest.approx(0.1)
    constant = Recipe(lr=0.4, schedule="constant")
    assert {constant.lr_at(step / 10) for step in range(10)} == {0.4}
