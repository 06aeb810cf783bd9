"""Every kind of label: targets, a loss that is finite whatever is unknown, predictions that the metrics score."""

import numpy as np
import pytest
import torch

from mmtool.common.errors import DataError
from mmtool.training.labelled_task import TASKS, suited

CASES = {
    "single": (["x", "y", "z", "x", None], "w"),
    "multilabel": (["drama|war", "war", "", None, "comedy|drama"], "war"),
    "binary": ([0, 1, 1, 0, None], 1),
    "regression": ([0.5, 1.5, -2.0, None, 7.25], 3),
    "survival": ([(5.0, 1.0), (2.0, 0.0), (9.0, 1.0), None, (1.0, 1.0)], (3.0, 0.0)),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("balanced", [False, True])
def test_losses_are_finite_ignore_unknown_labels_and_survive_a_batch_without_any(kind, balanced):
    labels, _ = CASES[kind]
    task = TASKS[kind].of(labels, balanced)
    outputs = torch.randn(len(labels), task.num_outputs, requires_grad=True)
    targets = torch.from_numpy(task.encode(labels))
    loss = task.loss(outputs, targets)
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    unknown = labels.index(None)
    assert not outputs.grad[unknown].any()
    nothing = task.loss(outputs, torch.full_like(targets, torch.nan))
    nothing.backward()
    assert nothing == 0
    again = TASKS[kind](task.state)
    assert again.num_outputs == task.num_outputs and torch.allclose(again.loss(outputs, targets), loss)


@pytest.mark.parametrize("kind", CASES)
def test_a_model_that_knows_the_answer_gets_the_best_score(kind):
    labels, _ = CASES[kind]
    labels = [label for label in labels * 6 if label is not None]
    task = TASKS[kind].of(labels, False)
    targets = task.encode(labels)
    outputs = torch.from_numpy(targets)
    if kind == "single":
        outputs = torch.nn.functional.one_hot(outputs[:, 0].long(), task.num_outputs).float() * 9
    if kind == "multilabel":
        outputs = outputs * 18 - 9
    if kind == "regression":
        assert np.allclose(task.decode(outputs.numpy()), labels)
    if kind == "survival":
        pytest.importorskip("sksurv")
        outputs = -outputs[:, :1]
    right, wrong = (task.measure(side.numpy(), targets, 0) for side in (outputs, -outputs))
    assert right.keys() == set(task.metrics) and right[task.metric].value == pytest.approx(1.0, abs=1e-4)
    assert wrong[task.metric].value < 0.5


def test_a_class_that_training_never_saw_has_no_loss_and_is_never_right():
    task = TASKS["single"].of(["x", "y"], False)
    targets = task.encode(["x", "z", "z", "w", None])
    assert targets[:, 0].tolist()[:4] == [0, -1, -1, -2] and np.isnan(targets[4, 0])
    outputs = np.array([[9.0, -9.0]] * 5, np.float32)
    assert task.loss(torch.from_numpy(outputs), torch.from_numpy(targets)) < 1e-4
    measured = task.measure(outputs, targets, 0)
    assert measured["accuracy"].value == 0.25 and measured["accuracy"].n == 4
    assert list(task.decode(outputs)) == ["x"] * 5


def test_labels_call_for_their_kind():
    assert {kind: suited(labels) for kind, (labels, _) in CASES.items() if kind not in ("survival", "multilabel")} == {
        "single": "single",
        "binary": "binary",
        "regression": "regression",
    }
    assert suited([["a", "b"], []]) == "multilabel" and suited(list(range(10)) * 2) == "single"
    assert suited(list(range(30, 60)) * 2) == "regression"


def test_balanced_weights_make_rare_classes_count_as_much():
    task = TASKS["single"].of(["a"] * 90 + ["b"] * 10, balanced=True)
    assert np.allclose(task.state["weights"], [100 / 180, 100 / 20])
    outputs = torch.zeros(100, 2)
    targets = torch.from_numpy(task.encode(["a"] * 90 + ["b"] * 10))
    each = torch.nn.functional.cross_entropy(outputs, targets[:, 0].long(), reduction="none")
    sides = each[:90].sum(), each[90:].sum()
    assert torch.isclose(sides[0] * task.state["weights"][0], sides[1] * task.state["weights"][1])


def test_the_partial_likelihood_is_that_of_cox():
    task = TASKS["survival"].of([(1.0, 1.0)], False)
    risk = torch.tensor([[0.3], [-1.0], [2.0], [0.1]])
    targets = torch.tensor([[2.0, 1.0], [2.0, 0.0], [1.0, 1.0], [5.0, 0.0]])
    first = torch.logsumexp(risk[:, 0], 0) - 2.0
    second = torch.logsumexp(risk[[0, 1, 3], 0], 0) - 0.3
    assert torch.isclose(task.loss(risk, targets), (first + second) / 2)


def test_labels_that_cannot_be_learned_are_refused():
    for kind, labels in (("single", ["a", "a"]), ("binary", [1, 2, 3]), ("regression", [1.0, 1.0]), ("survival", [(1.0, 0.0)])):
        with pytest.raises(DataError):
            TASKS[kind].of(labels, False)
