"""Suite files: what they mean, and that every mistake in one is a single message with its place."""
# ruff: noqa: E501  a table of messages reads better unbroken

import pytest

from regathlon import plugins, yaml_text
from regathlon.plan import make_plan
from regathlon.suite import MissingTask
from regathlon.suite_files import load_suite
from regathlon_core.errors import UserError
from regathlon_core.recipe import Budget

GOOD = "tasks: [toy/blobs]\nregularizers: [none]\n"


def planned(path, *overrides):
    return make_plan(load_suite(path, overrides))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("tasks: [toy/blobs]\nregularisers: [none]\n", 2, "A suite has no key 'regularisers'. Did you mean 'regularizers'?"),
        ("tasks: [toy/blobs]\n", 1, "regularizers is required and missing."),
        ("tasks: toy/blobs\nregularizers: [none]\n", 1, "tasks must be a list, [a, b], not 'toy/blobs'. Write [toy/blobs]."),
        ("tasks: []\nregularizers: [none]\n", 1, "tasks is empty: the suite has no trials."),
        ("tasks: [toy/blobs]\nregularizers: []\n", 2, "regularizers is empty: the suite has no trials."),
        (GOOD + "seeds: []\n", 3, "seeds is empty: the suite has no trials."),
        (GOOD + "seeds: 0\n", 3, "at least 1"),
        (GOOD + "seeds: three\n", 3, "seeds must be a whole number (3 means 0, 1, 2) or a list of them, not 'three'."),
        (GOOD + "seeds: [0, 1, 0]\n", 3, "A seed stands twice"),
        (GOOD + "seeds: true\n", 3, "not True"),
        ("tasks:\n  - toy/blobs\n  - toy/blob\nregularizers: [none]\n", 3, "There is no task 'toy/blob'. Did you mean 'toy/blobs'"),
        ("tasks: [toy/blobs]\nregularizers:\n  - none\n  - nois\n", 4, "There is no regularizer 'nois'. Did you mean 'noise'"),
        ("tasks: [toy/blobs]\nregularizers:\n  - noise(scale=3)\n", 3, "noise: scale must lie in [0, 1], not 3.0."),
        ("tasks: [toy/blobs]\nregularizers: [noise(scale=1, label=a)]\n", 2, "a value with commas needs quotes"),
        ("tasks: [toy/blobs]\nregularizers: [mix+blend]\n", 2, "mix and blend cannot be combined: both mix samples and labels"),
        ("tasks: [toy/blobs]\nregularizers: [none, 3]\n", 2, "regularizers.1 must be a word, not 3."),
        ("tasks: [toy/blobs, toy/blobs]\nregularizers: [none]\n", 1, "'toy/blobs' stands twice in tasks."),
        ("tasks: [toy/blobs(spread=wide)]\nregularizers: [none]\n", 1, "toy/blobs: spread must be a number, not 'wide'."),
        (GOOD + "models:\n  toy/blobs: [mpl]\n", 4, "There is no model of toy/blobs 'mpl'. Did you mean 'mlp'? (All of them: regathlon describe toy/blobs)"),
        (GOOD + "models: {toy/blobs: []}\n", 3, "models.toy/blobs is empty"),
        (GOOD + "models: {toy/blops: [mlp]}\n", 3, "There is no task 'toy/blops'"),
        (GOOD + "budget: {epoch: 3}\n", 3, "budget has no key 'epoch'. Did you mean 'epochs'?"),
        (GOOD + "budget: {epochs: 3, steps: 5}\n", 3, "exactly one of epochs, steps, seconds and flops"),
        (GOOD + "budget: {epochs: 0}\n", 3, "budget of 0 epochs"),
        (GOOD + "budget: {epochs: few}\n", 3, "budget: epochs must be a whole number, not 'few'."),
        (GOOD + "budgets:\n  toy/blobs:\n    epochs: 1.5\n", 4, "budgets.toy/blobs: epochs must be a whole number, not 1.5."),
        (GOOD + "recipe:\n  lr: 0.1\n  momentun: 0.5\n", 5, "recipe has no key 'momentun'. Did you mean 'momentum'?"),
        (GOOD + "recipe:\n  lr: fast\n", 4, "recipe: lr must be a number, not 'fast'."),
        (GOOD + "recipe: {optimizer: sdg}\n", 3, "recipe: optimizer must be 'sgd', 'adam' or 'adamw', not 'sdg'. Did you mean 'sgd'?"),
        (GOOD + "recipe: {budget: {epochs: 3}}\n", 3, "The budget has its own key"),
        (GOOD + "recipe: {momentum: 0}\n", 3, "Nesterov's step needs a momentum above 0"),
        (GOOD + "exclude: [{tasks: toy/blobs}]\n", 3, "An exclude entry has no key 'tasks'. Did you mean 'task'?"),
        (GOOD + "exclude: [{}]\n", 3, "exclude everything"),
        (GOOD + "exclude:\n  - task: toy/blobs\n  - regularizer: nose\n", 5, "There is no regularizer 'nose'. Did you mean 'noise'"),
        (GOOD + "exclude: [{model: mpl}]\n", 3, "There is no model 'mpl'. Did you mean 'mlp'?"),
        (GOOD + "selection: best\n", 3, "selection must be 'last', 'best_val' or 'oracle', not 'best'."),
        (GOOD + "tasks: [toy/shifted]\n", 3, "The key 'tasks' stands twice (first in line 1)."),
        (GOOD + "recipe:\n  lr: 1\n  lr: 2\n", 5, "The key 'lr' stands twice (first in line 4)."),
        ("tasks: [toy/blobs\nregularizers: [none]\n", 2, "This is no valid YAML"),
        ("- toy/blobs\n", None, "A suite is a mapping with the keys tasks, regularizers"),
        ("", None, "A suite is a mapping"),
        ("tasks: [toy/broken]\nregularizers: [none]\n", 1, "The task 'toy/broken' of toyplug cannot be loaded"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_with_its_line(suite_file, text, line, said):
    path = suite_file(text)
    with pytest.raises(UserError) as caught:
        planned(path)
    place = f"{path}:{line}: " if line else f"{path}: "
    assert str(caught.value).startswith(place)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("regularizers=[dropblok, none]", "--set regularizers: There is no regularizer 'dropblok'."),
        ("regularizers=[noize]", "Did you mean 'noise'"),
        (
            "regularizers=noise",
            "--set regularizers: regularizers must be a list, [a, b], not 'noise'. Write [noise].",
        ),
        (
            "regularizer=[noise]",
            "--set regularizer: A suite has no key 'regularizer'. Did you mean 'regularizers'?",
        ),
        ("recipe.lrr=1", "--set recipe.lrr: recipe has no key 'lrr'."),
        ("recipe.lr=fast", "--set recipe.lr: recipe: lr must be a number, not 'fast'."),
        ("seeds=[]", "--set seeds: seeds is empty"),
        ("seeds", "--set takes KEY=VALUE"),
        ("budget.epochs=[", "--set budget.epochs: '[' is no value"),
        ("budget=3", "--set budget: budget must be a mapping, {key: value}, not 3."),
        ("tasks=[]", "--set tasks: tasks is empty"),
    ],
)
def test_a_mistake_in_set_names_the_option(suite_file, override, said):
    with pytest.raises(UserError) as caught:
        planned(suite_file(GOOD), override)
    assert said in str(caught.value)
    assert "--set" in str(caught.value)


def test_set_of_budgets_leaves_the_rest_of_the_suite(suite_file):
    file = suite_file(
        "tasks: [toy/blobs]\nregularizers: [none]\nseeds: 2\nbudgets: {toy/blobs: {epochs: 2}}\n"
    )
    for said in (
        "budgets={toy/blobs: {steps: 5}}",
        "budgets.toy/blobs={steps: 5}",
        "budgets.toy/blobs.steps=5",
    ):
        trials = planned(file, said).trials
        assert len(trials) == 2
        assert {(trial.recipe.budget.epochs, trial.recipe.budget.steps) for trial in trials} == {(None, 5)}


def test_set_changes_what_the_file_says(suite_file):
    path = suite_file(
        GOOD + "seeds: 2\nbudget: {epochs: 7}\nbudgets: {toy/blobs: {steps: 5}}\n"
        "recipe: {lr: 0.1}\nrecipes: {toy/blobs: {lr: 0.2, gamma: 0.5}}\n"
    )
    before = planned(path).trials[0].recipe
    assert (before.budget, before.lr, before.gamma) == (Budget(steps=5), 0.2, 0.5)
    trials = planned(
        path,
        "regularizers=[noise(scale=0.5, kind=uniform), none+noise]",
        "seeds=[4]",
        "budget.epochs=1",
        "recipe.lr=1e-3",
        "models.toy/blobs=[mlp(width=4), linear]",
        "tasks=[toy/shifted, toy/blobs]",
    ).trials
    assert {trial.seed for trial in trials} == {4}
    assert {str(part) for trial in trials for part in trial.regularizer} == {
        "noise(scale=0.5, kind=uniform)",
        "noise",
    }
    blobs = [trial for trial in trials if trial.task.name == "toy/blobs"]
    assert {str(trial.model) for trial in blobs} == {"mlp(width=4)", "linear"}
    assert {(t.recipe.budget, t.recipe.lr, t.recipe.gamma) for t in blobs} == {(Budget(epochs=1), 0.001, 0.5)}


def test_a_resolved_suite_written_to_a_run_plans_the_same_trials(suite_file):
    path = suite_file(GOOD + "title: 'on'\nseeds: 2\nrecipe: {lr: 1e-3}\n")
    plan = planned(path, 'regularizers=[noise(label="1e-3"), none]')
    again = planned(suite_file(yaml_text.write(plan.suite.raw), "again"))
    assert [trial.id for trial in again.trials] == [trial.id for trial in plan.trials]
    assert again.suite.title == "on"


def test_excludes_leave_cells_out(suite_file):
    path = suite_file(
        "tasks: [toy/blobs, toy/shifted]\nregularizers: [none, noise, noise(scale=0.2), noise+mix]\nseeds: 2\n"
        "exclude:\n"
        "  - {task: toy/blobs, regularizer: noise(scale=0.2)}\n"
        "  - {task: 'toy/shifted(test=here)'}\n"
        "  - {seed: 1, regularizer: noise}\n"
    )
    left = {(str(t.task), "+".join(map(str, t.regularizer)), t.seed) for t in planned(path).trials}
    far = 'toy/shifted(test="far there")'
    assert left == {
        *(("toy/blobs", name, 0) for name in ("none", "noise", "noise+mix")),
        *(("toy/blobs", name, 1) for name in ("none", "noise+mix")),
        *((far, name, 0) for name in ("none", "noise", "noise(scale=0.2)", "noise+mix")),
        *((far, name, 1) for name in ("none", "noise+mix")),
    }


def test_excluding_everything_is_refused(suite_file):
    with pytest.raises(UserError, match="exclude entries leave no trial"):
        planned(suite_file(GOOD + "exclude: [{task: toy/blobs}]\n"))


def test_what_cannot_run_is_skipped_with_a_reason(suite_file, monkeypatch):
    monkeypatch.setattr(plugins, "EXTRAS", {"astro": "astro"})
    path = suite_file(
        "tasks: [toy/blobs, toy/downloaded, astro/stars]\nregularizers: [none, graph_only]\nseeds: 1\n"
        "budgets: {astro/stars: {epochs: 3}}\n"
    )
    plan = planned(path)
    assert [(str(trial.task), str(trial.regularizer[0])) for trial in plan.trials] == [("toy/blobs", "none")]
    reasons = {(cell.names["task"], cell.names["regularizer"]): cell.reason for cell in plan.skipped}
    needs = "graph_only needs training samples from several named domains, which toy/blobs does not offer"
    assert reasons["toy/blobs", "graph_only"] == needs
    assert "regathlon data fetch toy-files" in reasons["toy/downloaded", "none"]
    assert "toy/points.npy" in reasons["toy/downloaded", "none"]
    assert (
        reasons["astro/stars", "none"] == "needs the package regathlon-astro: pip install 'regathlon[astro]'"
    )
    assert isinstance(plan.suite.tasks[2], MissingTask)


def test_what_needs_a_missing_file_of_weights_is_skipped_and_the_rest_is_planned(suite_file, tmp_path):
    weights = tmp_path / "weights.pt"
    path = suite_file(
        f"tasks: [toy/blobs]\nseeds: 1\nmodels: {{toy/blobs: [mlp, 'linear(weights=\"{weights}\")']}}\n"
        f"regularizers: [none, 'distillation(teacher=linear, weights=\"{weights}\")']\n"
    )
    plan = planned(path)
    assert [(str(trial.model), str(trial.regularizer[0])) for trial in plan.trials] == [("mlp", "none")]
    assert [cell.reason for cell in plan.skipped] == [
        f"distillation needs the weights {weights}, and there is no such file",
        *[f"linear needs the weights {weights}, and there is no such file"] * 2,
    ]
    weights.write_bytes(b"some")
    assert len(planned(path).trials) == 4


def test_a_teacher_that_the_task_does_not_know_is_skipped_with_the_nearest(suite_file):
    path = suite_file(
        "tasks: [toy/blobs]\nseeds: 1\nregularizers: [none, distillation, 'distillation(teacher=linaer, weights=x.pt)']\n"
    )
    plan = planned(path)
    assert len(plan.trials) == 1
    no_teacher, unknown = (cell.reason for cell in plan.skipped)
    assert no_teacher.startswith("distillation needs a trained teacher")
    assert "There is no model of toy/blobs 'linaer'. Did you mean 'linear'?" in unknown


def test_a_task_may_stand_for_several_and_the_same_trial_is_planned_once(suite_file):
    path = suite_file("tasks: [toy/shifted, toy/shifted(test=here)]\nregularizers: [none]\nseeds: 1\n")
    assert [str(trial.task) for trial in planned(path).trials] == [
        "toy/shifted(test=here)",
        'toy/shifted(test="far there")',
    ]


def test_numbers_of_yaml_are_those_of_yaml_1_2():
    read = yaml_text.read(
        "a: 1e-3\nb: on\nc: 010\nd: 1_000\ne: 1:30\nf: .inf\ng: -2\nh: ~\ni: '3'", "x"
    ).value
    assert read == {
        **{"a": 0.001, "b": "on", "c": "010", "d": "1_000", "e": "1:30"},
        **{"f": float("inf"), "g": -2, "h": None, "i": "3"},
    }


def test_suites_are_found_by_name_and_a_wrong_name_says_which_is_near():
    assert load_suite("blobs").title == "Blobs"
    with pytest.raises(
        UserError, match=r"There is no suite 'blob'\. Did you mean 'blobs'\?.*regathlon list suites"
    ):
        load_suite("blob")
    with pytest.raises(UserError, match="There is no suite file"):
        load_suite("nowhere/blobs.yaml")


def test_a_budget_of_the_command_line_holds_for_every_task(suite_file):
    path = suite_file(GOOD + "budgets: {toy/blobs: {epochs: 7}}\n")
    budgets = {trial.recipe.budget for trial in make_plan(load_suite(path, ["budget={steps: 5}"])).trials}
    assert {budget.steps for budget in budgets} == {5}
    both = load_suite(path, ["budget={steps: 5}", "budgets={toy/blobs: {epochs: 2}}"])
    assert {trial.recipe.budget.epochs for trial in make_plan(both).trials} == {2}
