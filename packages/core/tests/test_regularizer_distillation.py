"""Distillation: the loss beside a second implementation, a teacher that nothing moves, files of weights, what is learnt."""

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regathlon_core import (
    Budget,
    Compose,
    CutMixSettings,
    Distillation,
    DistillationSettings,
    DropBlock,
    DropBlockSettings,
    LabelSmoothing,
    LabelSmoothingSettings,
    Mixup,
    MixupSettings,
    Recipe,
    UserError,
    fit,
    functional,
)
from regathlon_core.rng import stream
from regathlon_core.testing import Ending, Killed, ToyImages, ToyNodes, ToyScenes, conformance_checks
from regathlon_core.testing.toys.images import ToyImagesSettings
from regathlon_core.testing.trees import copied, difference

RECIPE = Recipe(lr=0.05, batch_size=16, budget=Budget(epochs=2))


@pytest.fixture(scope="module")
def task():
    return ToyImages()


@pytest.fixture
def weights(task, tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save(task.model(seed=1).state_dict(), path)
    return path


def soft_cross_entropy(student, teacher, temperature):
    """T² l(softmax(r / T), softmax(z / T)), l being the cross-entropy (He et al. 2019, section 5.3)."""
    total = torch.zeros((), dtype=student.dtype)
    rows = student.movedim(1, -1).reshape(-1, student.shape[1])
    wanted = teacher.movedim(1, -1).reshape(-1, student.shape[1])
    for z, r in zip(rows, wanted, strict=True):
        q = (r / temperature).exp() / (r / temperature).exp().sum()
        p = (z / temperature).exp() / (z / temperature).exp().sum()
        total = total - temperature**2 * (q * p.log()).sum()
    return total / len(rows)


# ---- the loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 4, 2)], ids=str)
def test_the_loss_is_the_soft_cross_entropy_less_the_teachers_entropy(shape, temperature):
    student = 3 * torch.randn(shape, generator=stream(0, "s")).double()
    teacher = 3 * torch.randn(shape, generator=stream(1, "t")).double()
    entropy = soft_cross_entropy(teacher, teacher, temperature)
    wanted = soft_cross_entropy(student, teacher, temperature) - entropy
    torch.testing.assert_close(functional.distillation(student, teacher, temperature), wanted)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_gradients_are_those_of_the_soft_cross_entropy(temperature):
    student = torch.randn(6, 5, generator=stream(0, "s")).double().requires_grad_()
    teacher = torch.randn(6, 5, generator=stream(1, "t")).double().requires_grad_()
    losses = [
        make(student, teacher.detach(), temperature) for make in (functional.distillation, soft_cross_entropy)
    ]
    first, second = (torch.autograd.grad(loss, student)[0] for loss in losses)
    torch.testing.assert_close(first, second)
    by_hand = temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) / 6
    torch.testing.assert_close(first, by_hand.detach())
    functional.distillation(student, teacher, temperature).backward()
    assert teacher.grad is None


def test_equal_outputs_are_at_no_distance_and_half_precision_is_widened():
    logits = torch.randn(6, 3, generator=stream(0, "s"))
    assert float(functional.distillation(logits, logits)) == 0
    half = functional.distillation(logits.half(), logits.flip(1).half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half, functional.distillation(logits.half().float(), logits.flip(1).half().float())
    )


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="temperature must be above 0, not 0"):
        functional.distillation(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0)
    with pytest.raises(UserError, match=r"\(2, 4\) and the model's \(2, 3\). A teacher needs the classes"):
        functional.distillation(torch.zeros(2, 3), torch.zeros(2, 4))


# ---- a step ------------------------------------------------------------------------------------------------


def test_a_step_adds_the_term_to_the_loss_on_labels(task):
    teacher, model = task.model(seed=1), task.model(seed=0).eval()
    regularizer = Distillation(network=teacher, temperature=3.0, weight=0.7)
    regularizer.attach(model, task)
    batch = task.batch("train", torch.arange(8))
    (loss,) = regularizer.losses(model, batch, task, stream(0, "step"))
    teacher.eval()
    outputs, reference = model(batch.inputs), teacher(batch.inputs).detach()
    apart = soft_cross_entropy(outputs, reference, 3.0) - soft_cross_entropy(reference, reference, 3.0)
    torch.testing.assert_close(
        loss, F.cross_entropy(outputs, batch.targets) + 0.7 * apart, rtol=1e-4, atol=1e-5
    )


def test_the_teacher_sees_mixed_samples_and_labels_stay_mixed_and_smoothed(task):
    teacher, model = task.model(seed=1).eval(), task.model(seed=0).eval()
    regularizer = Compose(
        [Distillation(network=teacher, temperature=2.0), LabelSmoothing(smoothing=0.1), Mixup(alpha=1.0)]
    )
    regularizer.attach(model, task)
    batch = task.batch("train", torch.arange(8))
    mixed = regularizer.transform(model, batch, task, stream(0, "mix"))
    assert mixed.mixed is not None
    assert not torch.equal(mixed.inputs, batch.inputs)
    (loss,) = regularizer.losses(model, mixed, task, stream(0, "step"))
    outputs, reference = model(mixed.inputs), teacher(mixed.inputs).detach()
    hot = F.one_hot(mixed.targets, 3), F.one_hot(mixed.mixed.targets, 3)
    share = mixed.mixed.weight[:, None]
    labels = 0.9 * (share * hot[0] + (1 - share) * hot[1]) + 0.1 / 3
    on_labels = -(labels * outputs.log_softmax(1)).sum(1).mean()
    apart = soft_cross_entropy(outputs, reference, 2.0) - soft_cross_entropy(reference, reference, 2.0)
    torch.testing.assert_close(loss, on_labels + apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_moves_the_teacher_nor_draws_random_numbers(task, training):
    teacher = torch.nn.Sequential(task.model(seed=1), torch.nn.Dropout(0.5)).train(training)
    teacher[0].block1.eval()
    before, flags = copied(teacher.state_dict()), [module.training for module in teacher.modules()]
    model, regularizer = task.model(seed=0).train(), Distillation(network=teacher)
    regularizer.attach(model, task)
    assert not list(regularizer.parameters())
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    generator = stream(0, "step")
    own = generator.get_state()
    (loss,) = regularizer.losses(model, task.batch("train", torch.arange(8)), task, generator)
    loss.backward()
    regularizer.after_step(1.0)
    regularizer.detach()
    assert torch.equal(generator.get_state(), own)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert difference(before, copied(teacher.state_dict())) is None
    assert [module.training for module in teacher.modules()] == flags
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())


def test_building_the_teacher_draws_nothing_from_the_models_stream(task, weights):
    state = torch.get_rng_state()
    for settings in (DistillationSettings(weights=str(weights)), named(weights)):
        Distillation(settings).attach(task.model(seed=0), task)
        assert torch.equal(torch.get_rng_state(), state)


# ---- teachers from files -----------------------------------------------------------------------------------


def named(path, teacher="toy_conv(width=8)", **changes):
    return DistillationSettings(teacher=teacher, weights=str(path), **changes)


def trained(task, regularizer, **options):
    model = task.model(seed=0)
    fit(model, task, regularizer, RECIPE, **options)
    return copied(model.state_dict())


def test_a_file_and_the_network_itself_teach_alike(task, weights):
    first = trained(task, Distillation(network=task.model(seed=1)))
    assert difference(first, trained(task, Distillation(named(weights)))) is None
    assert difference(first, trained(task, Distillation(weights=str(weights)))) is None
    assert difference(first, trained(task, Distillation(network=task.model(seed=2)))) is not None


def test_a_teacher_may_be_another_model_of_the_task(task, tmp_path):
    wide = task.settings.models[0](width=12).build(task)
    path = tmp_path / "wide.pt"
    torch.save(wide.state_dict(), path)
    first = trained(task, Distillation(network=wide))
    assert difference(first, trained(task, Distillation(named(path, "toy_conv( width = 12 )")))) is None
    with pytest.raises(
        UserError, match=r"wide\.pt: 'block1\.0\.weight' of the weights is \(12, 1, 3, 3\), not"
    ):
        trained(task, Distillation(named(path)))


def test_a_checkpoint_of_a_training_is_a_file_of_weights(task, tmp_path):
    path = tmp_path / "checkpoint.pt"
    model = task.model(seed=1)
    fit(model, task, recipe=RECIPE, checkpoint=path, checkpoint_seconds=0.0)
    saved = task.model(seed=2)
    saved.load_state_dict(torch.load(path, weights_only=True)["model"])
    assert (
        difference(trained(task, Distillation(network=saved)), trained(task, Distillation(named(path))))
        is None
    )


def test_features_regularized_in_the_student_are_plain_in_the_teacher(task, weights):
    model = task.model(seed=0).train()
    parts = [DropBlock(p=0.5), Distillation(weights=str(weights))]
    regularizer = Compose(parts)
    regularizer.attach(model, task)
    batch = task.batch("train", torch.arange(8))
    regularizer.transform(model, batch, task, stream(0, "step"))
    (teacher,) = parts[1]._teacher
    assert torch.equal(teacher.eval()(batch.inputs), task.model(seed=1).eval()(batch.inputs))


def test_a_resume_reads_the_teacher_again_and_ends_in_the_same_bits(task, weights, tmp_path):
    undisturbed = trained(task, Distillation(named(weights)))
    checkpoint = {"checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0.0}
    with contextlib.suppress(Killed):
        trained(task, Distillation(named(weights)), observer=Ending(kill=["step 5"]), **checkpoint)
    kept = weights.read_bytes()
    torch.save(task.model(seed=2).state_dict(), weights)
    with pytest.raises(UserError, match="not those that this training began with"):
        trained(task, Distillation(named(weights)), **checkpoint)
    weights.write_bytes(kept)
    assert difference(undisturbed, trained(task, Distillation(named(weights)), **checkpoint)) is None


def test_a_resume_with_another_network_is_refused(task, tmp_path):
    checkpoint = {"checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0.0}
    with contextlib.suppress(Killed):
        trained(
            task, Distillation(network=task.model(seed=1)), observer=Ending(kill=["step 5"]), **checkpoint
        )
    with pytest.raises(UserError, match="not those that this training began with"):
        trained(task, Distillation(network=task.model(seed=2)), **checkpoint)
    undisturbed = trained(task, Distillation(network=task.model(seed=1)))
    assert (
        difference(undisturbed, trained(task, Distillation(network=task.model(seed=1)), **checkpoint)) is None
    )


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "cannot be read: there is no such file"),
        (b"no checkpoint", "cannot be read"),
        (b"", "cannot be read"),
        ([1, 2], "are no state dict"),
        ({"epoch": 3}, "are no state dict"),
        (
            lambda state: {**state, "more": torch.zeros(1)},
            r"have, and the model has not, 'more' \(1 such names\)",
        ),
        (lambda state: {k: v for k, v in state.items() if k != "head.bias"}, r"lack 'head\.bias'"),
        (
            lambda state: {**state, "head.weight": torch.zeros(5, 16), "head.bias": torch.zeros(5)},
            r"'head\.weight' of the weights is \(5, 16\), not \(3, 16\): .* another number of classes",
        ),
        (copy.deepcopy, None),
        (lambda state: {"model": {f"module.{key}": value for key, value in state.items()}}, None),
        (lambda state: {"state_dict": state, "optimizer": {"lr": 0.1}}, None),
    ],
)
def test_files_that_do_not_fit_are_refused_in_words(task, tmp_path, contents, message):
    path = tmp_path / "weights.pt"
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents is not None:
        torch.save(contents(task.model(seed=1).state_dict()) if callable(contents) else contents, path)
    for settings in (named(path), DistillationSettings(weights=str(path))):
        if message is None:
            Distillation(settings).attach(task.model(seed=0), task)
        else:
            with pytest.raises(UserError, match=message) as caught:
                Distillation(settings).attach(task.model(seed=0), task)
            assert str(caught.value).startswith(f"{path}: ")


def test_no_code_of_a_file_is_executed(task, tmp_path):
    path, done = tmp_path / "weights.pt", tmp_path / "done"
    torch.save(Harmful(done), path)
    with pytest.raises(UserError, match="cannot be read"):
        Distillation(named(path)).attach(task.model(seed=0), task)
    assert not done.exists()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_without_a_teacher_there_is_one_message(task, weights):
    model = task.model(seed=0)
    with pytest.raises(UserError, match="distillation needs a trained teacher"):
        Distillation().attach(model, task)
    with pytest.raises(UserError, match="not the model itself"):
        Distillation(network=model).attach(model, task)
    with pytest.raises(UserError, match="not from both"):
        Distillation(named(weights), network=task.model(seed=1))
    with pytest.raises(UserError, match="attach with the task, or give a network"):
        Distillation(named(weights)).attach(model)
    Distillation(weights=str(weights)).attach(model)
    Distillation(weight=0.0).attach(model, task)


# ---- the declaration ---------------------------------------------------------------------------------------


def test_a_trial_is_known_by_the_contents_of_its_teacher(weights, tmp_path):
    moved = tmp_path / "elsewhere.pt"
    moved.write_bytes(weights.read_bytes())
    described = named(weights).describe()
    assert described == named(moved).describe()
    assert described == named(weights, " toy_conv( width=8 )").describe()
    assert str(tmp_path) not in str(described)
    assert described["settings"]["weights"].startswith("sha256:")
    for other in (
        named(weights, "toy_conv(width=9)"),
        named(weights, temperature=2.0),
        named(weights, weight=0.5),
    ):
        assert other.describe() != described
    moved.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert named(moved).describe() != described
    moved.unlink()
    assert named(moved).describe()["settings"]["weights"] == str(moved)


def test_a_missing_file_is_missing_and_no_refusal(weights, tmp_path):
    task = ToyImagesSettings()
    assert named(weights).missing() is None
    assert DistillationSettings().missing() is None
    absent = named(tmp_path / "none.pt")
    assert (
        absent.missing()
        == f"distillation needs the weights {tmp_path / 'none.pt'}, and there is no such file"
    )
    assert absent.refusal(task) is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (DistillationSettings(), "distillation needs a trained teacher: the file of its weights"),
        (
            DistillationSettings(teacher="toy_conv"),
            "distillation needs a trained teacher: the file of its weights",
        ),
        (named("x.pt", "toy_cnv"), "There is no model of vision/toy 'toy_cnv'. Did you mean 'toy_conv'?"),
        (
            named("x.pt", "toy_conv(widht=3)"),
            "There is no setting of toy_conv 'widht'. Did you mean 'width'?",
        ),
        (named("x.pt", "toy_conv(width=wide)"), "toy_conv: width cannot be 'wide'"),
        (named("x.pt", "toy_conv(width=true)"), "toy_conv: width cannot be True"),
    ],
    ids=str,
)
def test_what_cannot_teach_on_a_task_is_refused_with_the_nearest_choice(settings, reason):
    assert reason in settings.refusal(ToyImagesSettings())


def test_what_a_task_lacks_is_said_first():
    hostile = type("Hostile", (ToyImagesSettings,), {"provides": frozenset({"class_labels"})})()
    assert "a loss between two outputs" in DistillationSettings().refusal(hostile)
    assert all(
        DistillationSettings(weights="x.pt").refusal(t.settings) is None for t in (ToyNodes(), ToyScenes())
    )


@pytest.mark.parametrize("teacher", ["wrn(", "wrn(16)", "(depth=16)", "wrn(=16)", "wrn(depth=16", "wrn)("])
def test_a_teacher_that_is_not_written_as_models_are_is_refused(teacher):
    with pytest.raises(
        UserError, match=r"The teacher .* cannot be read: .*The form is name\(key=value, \.\.\.\)"
    ):
        DistillationSettings(teacher=teacher)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a number above 0"),
        ({"temperature": float("inf")}, "temperature must be a number above 0"),
        ({"weight": -1.0}, "weight must be a number at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Distillation(**settings)


# ---- what it does ------------------------------------------------------------------------------------------


def test_a_student_learns_from_its_teacher_what_its_labels_do_not_say(task):
    """The student's labels are drawn at random; the teacher learnt the true ones."""
    recipe = Recipe(lr=0.05, batch_size=16, budget=Budget(epochs=10))
    teacher = fit(task.model(seed=9), task, recipe=recipe).model
    inputs, targets = task._data["train"]
    wrong = copy.copy(task)
    wrong._data = {
        **task._data,
        "train": (inputs, torch.randint(3, targets.shape, generator=stream(0, "labels"))),
    }
    for seed in (0, 1):
        plain, taught = (
            fit(task.model(seed=seed), wrong, regularizer, recipe, seed=seed).history[-1].test["accuracy"]
            for regularizer in (None, Distillation(network=teacher))
        )
        assert plain < 0.6
        assert taught > 0.75


COMPOSED = [
    [MixupSettings(), LabelSmoothingSettings(), DistillationSettings(weights="teacher.pt")],
    [CutMixSettings(), DropBlockSettings(p=0.3, block_size=2), DistillationSettings(weights="teacher.pt")],
]


@pytest.mark.parametrize(
    "check", [check for parts in COMPOSED for check in conformance_checks(parts, [ToyImages()])], ids=str
)
def test_it_keeps_the_rules_beside_others(check):
    check()


@pytest.mark.parametrize(
    "check",
    conformance_checks(DistillationSettings(teacher="toy_conv", weights="teacher.pt"), [ToyImages()]),
    ids=str,
)
def test_it_keeps_the_rules_with_a_teacher_by_name(check):
    check()
