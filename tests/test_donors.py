"""Holes are filled with real data: the donor from which what is given can be told best, as evaluated and as written to files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import sample
from toy_study import found

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.evaluation.config import DonorOptions, EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.tasks import donors as task
from mmtool.imputation.files import ImputeOptions, impute_files
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.sampling_params import SamplingParams
from mmtool.methods import METHODS

DONORS = EvaluationConfig(tasks=("donors",), donors=DonorOptions(max_donors=40))


@pytest.fixture(scope="module")
def imputer(toy: Path) -> Imputer:
    return Imputer.open(toy / "commutative")


def queries(count: int, names: str = "a") -> list[Sample]:
    return [sample(f"query-{i}", i % 4, names) for i in range(count)]


def pool(count: int, name: str = "b") -> list[Sample]:
    return [sample(f"donor-{i}", i % 4, name) for i in range(count)]


def by_pairs(
    imputer: Imputer, asked: list[Sample], given: list[str], donors: list[Sample], want: str = "b", around: list[Sample] | None = None
) -> np.ndarray:
    """Mutual information by one document for each pair and direction; around: each holds one of the given modalities."""

    def log_p(samples: list[Sample], have: list[str], target: str) -> np.ndarray:
        return -np.array([nll for nll, _ in imputer.score(samples, have, target)])

    joined = [Sample("", {**each.tokens, want: donor.tokens[want]}) for each in asked for donor in donors]
    back = np.sum([log_p(joined, [want], name) for name in given], 0).reshape(len(asked), -1)
    alone = log_p(donors, [], want)
    if around:
        pairs = [(each, Sample("", {**each.tokens, want: donor.tokens[want]})) for each in around for donor in donors]
        told = [log_p([pair], [name for name in given if name in each.tokens], want)[0] for each, pair in pairs]
        alone = np.log(np.exp(np.reshape(told, (len(around), -1))).mean(0))
    return (back + log_p(joined, given, want).reshape(len(asked), -1) - alone) / 2


def test_reading_each_donor_once_scores_as_reading_every_pair(imputer: Imputer) -> None:
    asked, donors = queries(5, "ac"), pool(7)
    for given in (["a"], ["a", "c"]):
        matched = imputer.match(asked, given, "b", [donor.tokens["b"] for donor in donors])
        np.testing.assert_allclose(matched, by_pairs(imputer, asked, given, donors), atol=0.05)


def test_how_likely_a_donor_is_anyway_is_its_mean_over_others_that_hold_some_of_the_given(imputer: Imputer) -> None:
    asked, donors = queries(3, "ac"), pool(5)
    around = [sample("x", 0, "a"), sample("y", 1, "c"), sample("z", 2, "a"), sample("other", 2, "b")]
    matched = imputer.match(asked, ["a", "c"], "b", [donor.tokens["b"] for donor in donors], around)
    np.testing.assert_allclose(matched, by_pairs(imputer, asked, ["a", "c"], donors, around=around[:3]), atol=0.1)


def test_matching_in_parts_is_matching_at_once(imputer: Imputer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, codes = queries(5), [donor.tokens["b"] for donor in pool(7)]
    whole = imputer.match(asked, ["a"], "b", codes)
    monkeypatch.setattr("mmtool.methods.matching.TOGETHER", 3)
    np.testing.assert_allclose(imputer.match(asked, ["a"], "b", codes), whole, atol=0.05)


def test_texts_of_different_lengths_do_not_disturb_each_other(project: Path) -> None:
    """Behind a short donor stand unused places of the cache."""
    imputer, samples = Imputer.open(project / "run"), list(open_token_set(project / "shards"))[:6]
    donors = [Sample("", {"text": samples[0].tokens["text"][: 2 + i]}) for i in range(4)]
    matched = imputer._method.match(imputer.model, samples, ["lab"], "text", [donor.tokens["text"] for donor in donors])
    np.testing.assert_allclose(matched, by_pairs(imputer, samples, ["lab"], donors, "text"), atol=0.05)


def test_a_method_that_scores_token_by_token_chooses_as_well(toy: Path) -> None:
    other = Imputer.open(toy / "commutative")
    other._method = METHODS["masked"](other.run.layout, other.graph, METHODS["masked"].Options())
    with torch.random.fork_rng():
        asked, donors = queries(2), pool(3)
        matched = other.match(asked, ["a"], "b", [donor.tokens["b"] for donor in donors])
    np.testing.assert_allclose(matched, by_pairs(other, asked, ["a"], donors), atol=0.05)


@pytest.mark.parametrize("method", ["commutative", "contrastive"])
def test_the_best_donor_is_of_the_same_class(toy: Path, method: str) -> None:
    imputer, donors = Imputer.open(toy / method), pool(40)
    asked, of_key = queries(40), {donor.key: donor for donor in donors}
    made = imputer.choose(asked, ["a"], "b", donors, draws=3)
    assert all(len(each.donors) == len(set(each.donors)) == 3 for each in made)
    assert all(np.array_equal(codes, of_key[key].tokens["b"]) for each in made for codes, key in zip(each.tokens, each.donors, strict=True))
    right = [of_key[answer.donors[0]].labels == each.labels for each, answer in zip(asked, made, strict=True)]
    assert np.mean(right) > 0.8
    for each in made:
        assert each.log_likelihood == sorted(each.log_likelihood, reverse=True) and np.exp(each.log_likelihood).sum() <= 1


def test_a_sample_is_no_donor_of_its_own(imputer: Imputer) -> None:
    whole = [sample(f"both-{i}", i % 4, "ab") for i in range(8)]
    made = imputer.choose(whole, ["a"], "b", whole, draws=7)
    assert all(each.key not in answer.donors for each, answer in zip(whole, made, strict=True))


def test_too_few_donors_are_refused(imputer: Imputer) -> None:
    with pytest.raises(UsageError, match="donors hold b"):
        imputer.choose(queries(2), ["a"], "b", pool(5, "c"))
    with pytest.raises(UsageError, match="takes 4 or more"):
        imputer.choose(queries(2), ["a"], "b", pool(3), draws=3)
    with pytest.raises(UsageError, match="nothing is given"):
        imputer.choose(queries(2), [], "b", pool(3))


def test_what_has_no_likelihood_differs_from_no_donor(imputer: Imputer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputer._method, "can_score", lambda name: name != "a", raising=False)
    assert not imputer.can_match(["a"], "b") and imputer.can_match(["c"], "b")
    with pytest.raises(UsageError, match="no likelihood"):
        imputer.choose(queries(2), ["a"], "b", pool(5))


def test_files_hold_the_data_of_training_samples(mmtool, project: Path, tmp_path: Path) -> None:
    command = ["impute", project / "run", project / "shards", "--split", "test", "--have", "lab", "--want", "text"]
    done = mmtool(*command, "--donors", project / "shards", "--draws", 2, "-o", tmp_path / "filled")
    assert done.code == 0, done.err
    texts = {each.key: each for each in open_token_set(project / "shards", "train")}
    decode = Imputer.open(project / "run").tokenizers["text"].decode
    lines = [json.loads(line) for line in (tmp_path / "filled" / "imputed.jsonl").read_text().splitlines()]
    assert lines and all(len(line["donors"]) == len(line["files"]) == 2 for line in lines)
    for line in lines:
        for key, file in zip(line["donors"], line["files"], strict=True):
            assert (tmp_path / "filled" / file).read_text().strip() == decode([texts[key].tokens["text"]])[0].strip()


def test_what_donors_cannot_do_is_refused_before_anything_is_written(mmtool, project: Path, tmp_path: Path) -> None:
    command = ["impute", project / "run", project / "shards", "--have", "lab", "--want", "text", "--donors", project / "shards"]
    done = mmtool(*command, "--draws", 8, "--max-donors", 8, "-o", tmp_path / "filled")
    assert done.code == 2 and "--max-donors" in done.err
    done = mmtool(*command, "--space", "embedding", "-o", tmp_path / "filled")
    assert done.code == 2 and "--donors" in done.err and not (tmp_path / "filled").exists()
    for option in (["--temperature", "0.5"], ["--top-k", "3"], ["--guidance", "1"], ["--no-confidence"]):
        done = mmtool(*command, *option, "-o", tmp_path / "filled")
        assert done.code == 2 and f"{option[0]} has no effect with --donors" in done.err
    for options in (ImputeOptions(donors=[], params=SamplingParams(0.5)), ImputeOptions(donors=[], consistency=False)):
        with pytest.raises(UsageError, match="chosen, not drawn"):
            impute_files(project / "run", [], tmp_path / "filled", options)


def test_rows_of_donors_go_into_a_table_of_each_rank(mmtool, project: Path, tmp_path: Path) -> None:
    command = ["impute", project / "run", project / "shards", "--split", "test", "--have", "text", "--want", "lab"]
    done = mmtool(*command, "--donors", project / "shards", "--max-donors", 12, "--draws", 2, "-o", tmp_path / "filled")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "filled").iterdir()) == ["imputed.jsonl", "lab.1.csv", "lab.csv"]
    rows = list(csv.reader((tmp_path / "filled" / "lab.csv").open()))
    lines = [json.loads(line) for line in (tmp_path / "filled" / "imputed.jsonl").read_text().splitlines()]
    tokens = {each.key: each.tokens["lab"] for each in open_token_set(project / "shards", "train") if "lab" in each.tokens}
    real = Imputer.open(project / "run").tokenizers["lab"].decode([tokens[line["donors"][0]] for line in lines])
    np.testing.assert_allclose([[float(value) for value in row[1:]] for row in rows[1:]], real, rtol=1e-4)
    assert len({key for line in lines for key in line["donors"]}) <= 12


@pytest.mark.thorough
def test_the_task_measures_donors_beside_the_nearest_neighbour(toy: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    runs = [toy / "contrastive", toy / "commutative"]
    done = evaluate(runs, toy / "shards", tmp_path / "report", DONORS)
    for name in ("contrastive", "commutative", "nearest neighbour"):
        assert found(done.rows, run=name, given="a", target="b", metric="donor accuracy")["value"] > 0.6
    assert not found(done.rows, run="commutative", given="a", target="c", metric="donor accuracy")["seen"]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "most probable of 40 training samples" in text and (tmp_path / "report" / "donor-accuracy.png").exists()


def test_a_choice_that_would_take_forever_is_left_out_in_words(toy: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(task, "MAX_PASSES", 100)
    done = evaluate([toy / "commutative", toy / "contrastive"], toy / "shards", tmp_path / "report", DONORS)
    assert {row["run"] for row in done.rows} == {"nearest neighbour", "contrastive"}, "which compares features"
    assert "--max-donors" in capsys.readouterr().err


def test_a_masked_autoencoder_chooses_where_what_is_given_has_a_likelihood() -> None:
    import test_m3ae

    own = test_m3ae.method()
    model = test_m3ae.untrained(own)
    asked, donors = ([test_m3ae.a_sample(i) for i in seeds] for seeds in (range(3), range(10, 14)))
    for given, want in (("table", "text"), ("text", "image")):
        found = own.match(model, asked, [given], want, [donor.tokens[want] for donor in donors])
        assert found.shape == (3, 4) and np.isfinite(found).all() and found.std() > 0
    assert own.can_match(["text", "table"]) and not own.can_match(["image"]), "patches"
