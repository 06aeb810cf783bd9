"""Which label is meant where none is named, and whether it is a class or a number."""

from typing import Any

import pytest

from mmtool.common.errors import UsageError
from mmtool.data.labels import choose_label, is_number
from mmtool.data.sample import Sample


def samples(**columns: list[Any]) -> list[Sample]:
    count = len(next(iter(columns.values())))
    return [Sample(str(i), {}, {name: column[i] for name, column in columns.items() if column[i] is not None}) for i in range(count)]


def test_a_label_that_a_few_samples_lack_is_taken_and_a_time_is_not() -> None:
    held = samples(subtype=["a", "b", None] * 10, time_days=list(range(30)))
    assert choose_label(held, None) == "subtype"


def test_ages_are_numbers_and_digits_are_classes() -> None:
    held = samples(age=[20 + i % 50 for i in range(200)], digit=[i % 10 for i in range(200)])
    assert is_number(held, "age") and not is_number(held, "digit")
    assert choose_label(held, None) == "digit"


def test_a_label_of_few_samples_is_not_taken_without_being_named() -> None:
    held = samples(rare=["a", "b", *([None] * 28)])
    assert choose_label(held, None) is None and choose_label(held, "rare") == "rare"


def test_of_several_one_has_to_be_named() -> None:
    with pytest.raises(UsageError, match="event, subtype"):
        choose_label(samples(subtype=["a", "b"] * 10, event=[0, 1] * 10), None)
    with pytest.raises(UsageError, match="no sample has"):
        choose_label(samples(subtype=["a", "b"] * 10), "digit")


def test_without_labels_the_report_names_how_they_are_added(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="shard --labels FILE"):
        choose_label(samples(subtype=[None, None]), "subtype")
    assert choose_label(samples(subtype=[None, None]), None) is None
    assert "shard --labels FILE" in capsys.readouterr().err


def test_the_event_of_survival_is_chosen_only_where_there_is_no_other_label() -> None:
    survival = ("time", "event")
    assert choose_label(samples(subtype=["a", "b"] * 10, event=[0, 1] * 10), None, survival) == "subtype"
    assert choose_label(samples(event=[0, 1] * 10), None, survival) == "event"
