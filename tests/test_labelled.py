"""Every kind of label: targets, a loss that is finite whatever is unknown, answers that the metric can judge."""

import numpy as np
import pytest
import torch

from mmtool.adapt.measure import judge
from mmtool.common.errors import DataError
from mmtool.methods.labelled import GOALS, suited

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
    goal = GOALS[kind].of(labels, balanced)
    outputs = torch.randn(len(labels), goal.num_outputs, requires_grad=True)
    targets = torch.from_numpy(goal.targets(labels))
    loss = goal.loss(outputs, targets)
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    unknown = labels.index(None)
    assert not outputs.grad[unknown].any()
    nothing = goal.loss(outputs, torch.full_like(targets, torch.nan))
    nothing.backward()
    assert nothing == 0
    again = GOALS[kind](goal.state)
    assert again.num_outputs == goal.num_outputs and torch.allclose(again.loss(outputs, targets), loss)


@pytest.mark.parametrize("kind", CASES)
def test_a_model_that_knows_the_answer_gets_the_best_score(kind):
    labels, _ = CASES[kind]
    labels = [label for label in labels * 6 if label is not None]
    goal = GOALS[kind].of(labels, False)
    targets = goal.targets(labels)
    outputs = torch.from_numpy(targets)
    if kind == "single":
        outputs = torch.nn.functional.one_hot(outputs[:, 0].long(), goal.num_outputs).float() * 9
    if kind == "multilabel":
        outputs = outputs * 18 - 9
    if kind == "regression":
        outputs = (outputs - goal.state["mean"]) / goal.state["deviation"]
    if kind == "survival":
        pytest.importorskip("sksurv")
        outputs = -outputs[:, :1]
    found = judge(kind, goal.answers(outputs), targets, 0)
    assert found.value == pytest.approx(1.0, abs=1e-4)
    wrong = judge(kind, goal.answers(-outputs), targets, 0)
    assert wrong.value < 0.5


def test_labels_call_for_their_kind():
    assert {kind: suited(labels) for kind, (labels, _) in CASES.items() if kind not in ("survival", "multilabel")} == {
        "single": "single",
        "binary": "binary",
        "regression": "regression",
    }
    assert suited([["a", "b"], []]) == "multilabel" and suited(list(range(10))) == "single"


def test_balanced_weights_make_rare_classes_count_as_much():
    goal = GOALS["single"].of(["a"] * 90 + ["b"] * 10, balanced=True)
    assert np.allclose(goal.state["weights"], [100 / 180, 100 / 20])
    outputs = torch.zeros(100, 2)
    targets = torch.from_numpy(goal.targets(["a"] * 90 + ["b"] * 10))
    each = torch.nn.functional.cross_entropy(outputs, targets[:, 0].long(), reduction="none")
    sides = each[:90].sum(), each[90:].sum()
    assert torch.isclose(sides[0] * goal.state["weights"][0], sides[1] * goal.state["weights"][1])


def test_the_partial_likelihood_is_that_of_cox():
    goal = GOALS["survival"].of([(1.0, 1.0)], False)
    risk = torch.tensor([[0.3], [-1.0], [2.0], [0.1]])
    targets = torch.tensor([[2.0, 1.0], [2.0, 0.0], [1.0, 1.0], [5.0, 0.0]])
    first = torch.logsumexp(risk[:, 0], 0) - 2.0
    second = torch.logsumexp(risk[[0, 1, 3], 0], 0) - 0.3
    assert torch.isclose(goal.loss(risk, targets), (first + second) / 2)


def test_labels_that_cannot_be_learned_are_refused():
    for kind, labels in (("single", ["a", "a"]), ("binary", [1, 2, 3]), ("regression", [1.0, 1.0]), ("survival", [(1.0, 0.0)])):
        with pytest.raises(DataError):
            GOALS[kind].of(labels, False)
