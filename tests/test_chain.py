"""A run is also asked link by link: the link is drawn first, then the target from it alone, where training never saw the two together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training import CLASSES, make_shards, sample, settings

from mmtool.api import Run
from mmtool.common.errors import UsageError
from mmtool.comparison.grid import compare
from mmtool.data.sample import Sample
from mmtool.evaluation.config import EvaluationConfig, ImputeOptions
from mmtool.evaluation.evaluate import evaluate
from mmtool.imputation.chain import ChainedImputer, chained
from mmtool.imputation.chain import _seed_of as chain_seed
from mmtool.imputation.config import ImputeOptions as FileOptions
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.jobs import jobs_of
from mmtool.training.pretrain import pretrain

NAME = chained("commutative")
CHAINED = ImputeOptions(chain=("commutative",))
pytestmark = pytest.mark.usefixtures("quick_baselines")


@pytest.fixture(scope="module")
def imputer(toy: Path) -> Imputer:
    return Imputer.open(toy / "commutative")


@pytest.fixture(scope="module")
def rows(toy: Path, quick_baselines: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Rows of the same evaluation with the chain and without it."""
    folder = tmp_path_factory.mktemp("reports")
    configs = {
        "chain": EvaluationConfig(label="class", draws=2, contact_samples=3, impute=CHAINED),
        "plain": EvaluationConfig(label="class", draws=2),
    }
    return {name: evaluate([toy / "commutative"], toy / "shards", folder / name, config).rows for name, config in configs.items()}


def held_out(count: int, names: str = "abc") -> list[Sample]:
    return [sample(f"asked-{i}", i % CLASSES, names) for i in range(count)]


def value(rows: list[dict[str, Any]], run: str, given: str, target: str, metric: str) -> float:
    return next(
        row["value"] for row in rows if (row["run"], "".join(row["given"]), row["target"], row["metric"]) == (run, given, target, metric)
    )


@pytest.mark.thorough
def test_the_chain_answers_where_the_pair_was_never_seen_and_leaves_all_other_rows_alone(rows: dict[str, list[dict[str, Any]]]) -> None:
    own = [row for row in rows["chain"] if row["run"] == NAME]
    assert {("".join(row["given"]), row["target"]) for row in own} == {("a", "c"), ("c", "a")}
    assert {(row["method"], row["seed"], row["seen"]) for row in own} == {("commutative", 0, False)}
    assert {row["metric"] for row in own} >= {"accuracy", "perplexity", "r2"}
    assert [row for row in rows["chain"] if row["run"] != NAME] == rows["plain"]


@pytest.mark.thorough
def test_a_chain_of_seen_pairs_finds_the_class(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Asked directly, a run that never saw the pair guesses; each link it has learned."""
    for given, target in ("ac", "ca"):
        accuracy = value(rows["chain"], NAME, given, target, "accuracy")
        assert accuracy > 2 / CLASSES and accuracy > value(rows["chain"], "commutative", given, target, "accuracy")
        by_chain, directly = (value(rows["chain"], run, given, target, "perplexity") for run in (NAME, "commutative"))
        assert by_chain < 1.02 * directly, "an upper bound, so that it may be as high"


@pytest.mark.figures
@pytest.mark.slow
def test_the_report_shows_the_chain_beside_its_run(toy: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(label="class", limit=12, impute=CHAINED)
    done = evaluate([toy / "commutative", toy / "contrastive"], toy / "shards", tmp_path / "report", config)
    text = (done.report / "report.md").read_text()
    assert f"| direction | commutative | {NAME} | contrastive | marginal sample |" in text
    assert f"*{NAME}*: imputed along the shortest path" in text and "8 draws of the link" in text
    report = json.loads((done.report / "report.json").read_text())
    assert report["meta"]["config"]["impute"]["chain"] == ["commutative"]
    assert [run["name"] for run in report["meta"]["runs"]] == ["commutative", "contrastive"]
    svg = (done.report / "accuracy.svg").read_text()
    assert f"<!-- {NAME} -->" in svg
    assert done.contact_sheet is not None


def test_a_score_is_the_mean_likelihood_over_drawn_links(imputer: Imputer) -> None:
    chain, asked = ChainedImputer(imputer, num_links=5, link_seed=3), held_out(4)
    links = chain.links(asked, ["a", "b", "c"], 5, seed=3)
    assert len(links) == 20 and all(link.present == ("b",) for link in links)
    by_hand = []
    for i, each in enumerate(asked):
        told = imputer.score([Sample("", {**link.tokens, "c": each.tokens["c"]}) for link in links[5 * i : 5 * i + 5]], ["b"], "c")
        by_hand.append((-np.log(np.mean([np.exp(-nll) for nll, _ in told])), told[0][1]))
    np.testing.assert_allclose(chain.score(asked, ["a"], "c"), by_hand, rtol=1e-4)


def test_likelihoods_are_averaged_not_their_logarithms(imputer: Imputer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links of every class, of which one is right: the mean is that of one good likelihood in four, whatever the bad ones are."""
    chain, asked = ChainedImputer(imputer, num_links=CLASSES), held_out(1)
    links = [sample(f"link-{label}", label, "b") for label in range(CLASSES)]
    monkeypatch.setattr(chain, "links", lambda *_, **__: links)
    told = np.array(
        [nll for nll, _ in imputer.score([Sample("", {**each.tokens, "c": asked[0].tokens["c"]}) for each in links], ["b"], "c")]
    )
    assert told[0] < told[1:].min() - 1
    assert chain.score(asked, ["a"], "c")[0][0] == pytest.approx(-np.log(np.exp(-told).mean()), rel=1e-4)


def test_more_links_change_no_number_of_tokens(imputer: Imputer) -> None:
    asked = held_out(24)
    one, many = (np.array(ChainedImputer(imputer, num_links).score(asked, ["a"], "c")) for num_links in (1, 32))
    plain = np.array(imputer.score(asked, ["a"], "c"))
    assert (one[:, 1] == plain[:, 1]).all() and (many[:, 1] == plain[:, 1]).all()
    assert many[:, 0].sum() == pytest.approx(one[:, 0].sum(), rel=0.05)


def test_every_draw_goes_through_a_link_of_its_own_and_the_seed_decides(imputer: Imputer) -> None:
    chain, asked = ChainedImputer(imputer, num_links=4), held_out(3, "a")
    links = chain.links(asked, ["a", "b", "c"], 4, seed=7)
    assert len({link.tokens["b"].tobytes() for link in links[:4]}) > 1
    answers, again, other = (chain.impute(asked, ["a"], "c", seed=seed, draws=2) for seed in (7, 7, 8))
    assert all(len(answer.tokens) == len(answer.log_likelihood) == 2 for answer in answers)
    assert [[codes.tolist() for codes in each.tokens] for each in answers] == [[codes.tolist() for codes in each.tokens] for each in again]
    assert [[codes.tolist() for codes in each.tokens] for each in answers] != [[codes.tolist() for codes in each.tokens] for each in other]
    joined = [Sample("", {**links[i].tokens, "c": answers[0].tokens[i]}) for i in range(2)]
    told = [-nll / count for nll, count in imputer.score(joined, ["b"], "c")]
    np.testing.assert_allclose(answers[0].log_likelihood, told, atol=0.02)


def test_draws_are_ranked_by_how_well_each_end_of_a_link_tells_its_start(imputer: Imputer) -> None:
    chain, asked = ChainedImputer(imputer, num_links=4), held_out(2, "a")
    plain, answers = (chain.impute(asked, ["a"], "c", seed=7, draws=4, consistency=consistency) for consistency in (False, True))
    assert [answer.consistency for answer in plain] == [None, None] and all(answer.through == ("b",) for answer in answers)
    links = chain.links(asked, ["a", "b", "c"], 4, seed=7)
    for i, (each, answer) in enumerate(zip(asked, answers, strict=True)):
        assert [codes.tolist() for codes in answer.tokens] == [codes.tolist() for codes in plain[i].tokens]
        told = []
        for link, codes in zip(links[4 * i : 4 * i + 4], answer.tokens, strict=True):
            joined = Sample("", {**each.tokens, **link.tokens, "c": codes})
            told.append(
                0.5 * sum(-nll / count for have, to in (("b", "a"), ("c", "b")) for nll, count in imputer.score([joined], [have], to))
            )
        np.testing.assert_allclose(answer.consistency, told, atol=1e-3)


def test_files_are_imputed_by_the_chain_where_there_is_one(toy: Path, tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    asked = ("impute", toy / "commutative", toy / "shards", "--split", "validation", "--limit", 6, "--draws", 2)
    done = mmtool(*asked, "--have", "a", "--want", "b,c", "--chain", "-o", tmp_path / "chained")
    assert done.code == 0 and "c from a: b -> c" in done.err, done.err
    lines = [json.loads(line) for line in (tmp_path / "chained/imputed.jsonl").read_text().splitlines()]
    assert {(line["modality"], *line.get("through", ())) for line in lines} == {("b",), ("c", "b")}
    assert all(line["consistency"] == sorted(line["consistency"], reverse=True) for line in lines)
    assert mmtool(*asked, "--have", "a", "--want", "b,c", "-o", tmp_path / "direct").code == 0
    assert (tmp_path / "direct/b.csv").read_bytes() == (tmp_path / "chained/b.csv").read_bytes()
    assert (tmp_path / "direct/c.csv").read_bytes() != (tmp_path / "chained/c.csv").read_bytes()


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("commutative", ("--have", "a", "--want", "b"), "occurred with what is given in training"),
        ("contrastive", ("--have", "a", "--want", "c"), "retrieves training samples and cannot be chained"),
        ("commutative", ("--have", "a", "--want", "c", "--calibration", "report"), "not by a chain"),
        ("commutative", ("--have", "a", "--want", "c", "--donors", "DATA"), "--chain has no effect with --donors"),
    ],
)
def test_a_chain_that_is_none_is_refused(
    toy: Path, tmp_path: Path, mmtool: Callable[..., Any], run: str, options: tuple[str, ...], words: str
) -> None:
    given = [toy / "shards" if word == "DATA" else word for word in options]
    done = mmtool("impute", toy / run, toy / "shards", "--split", "validation", *given, "--chain", "-o", tmp_path / "out")
    assert done.code == 2 and words in done.err and not (tmp_path / "out").exists(), done.err


def test_python_asks_by_the_chain_as_well(toy: Path) -> None:
    run, asked = Run(Imputer.open(toy / "commutative")), held_out(3, "a")
    answers = run.impute(asked, "a", "c", draws=2, chain=True)
    by_chain = ChainedImputer(run.imputer).impute(asked, ["a"], "c", draws=2, consistency=True)
    assert [(answer.key, answer.through) for answer in answers] == [(each.key, ("b",)) for each in asked]
    assert [(answer.consistency or [])[0] for answer in answers] == pytest.approx([max(each.consistency or []) for each in by_chain])


def test_the_first_link_is_drawn_from_all_that_it_was_seen_with(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards", ("abc", "cd"))
    pretrain(settings(method="commutative", steps=2, checkpoint_every=0), shards, tmp_path / "run")
    chain, asked = ChainedImputer(Imputer.open(tmp_path / "run")), held_out(3, "ab")
    assert chain.read(["a", "b"], chain.path(["a", "b"], "d") or []) == ["a", "b"]
    drawn = chain._imputer.impute(asked, ["a", "b"], "c", seed=chain_seed(5, 0), draws=2)
    links = chain.links(asked, ["a", "c", "d"], 2, seed=5, have=["a", "b"])
    assert [link.tokens["c"].tolist() for link in links] == [codes.tolist() for answer in drawn for codes in answer.tokens]


def test_a_longer_path_is_walked_link_by_link(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards", ("ab", "bc", "cd"))
    pretrain(settings(method="commutative", steps=2, checkpoint_every=0), shards, tmp_path / "run")
    chain = ChainedImputer(Imputer.open(tmp_path / "run"), num_links=3)
    assert chain.path(["a"], "d") == ["a", "b", "c", "d"] and chain.path(["a", "b"], "d") == ["b", "c", "d"]
    assert chain.path(["a"], "b") is None and chain.path(["a", "b"], "c") is None
    asked = held_out(2, "abcd")
    assert [link.present for link in chain.links(asked, ["a", "b", "c", "d"], 3, seed=0)] == [("c",)] * 6
    assert chain.read(["a", "b"], ["b", "c", "d"]) == ["b"], "a and c were never seen together"
    assert [count for _, count in chain.score(asked, ["a"], "d")] == [len(each.tokens["d"]) for each in asked]
    jobs = jobs_of(chain._imputer, held_out(2, "ab"), FileOptions(want=("d",), chain=True))
    assert list(jobs) == [(("b",), "d")], "what is recorded as given is what was read"
    with pytest.raises(UsageError, match="there is no modality 'x'"):
        chain.impute(asked, ["a"], "x")
    with pytest.raises(UsageError, match="no chain of drawn modalities leads from a to b"):
        chain.impute(asked, ["a"], "b")


def test_what_cannot_be_chained_is_refused(toy: Path, tmp_path: Path, mmtool: Any) -> None:
    out = ["-o", tmp_path / "report"]
    done = mmtool("evaluate", toy / "contrastive", toy / "shards", "--chain", "contrastive", *out)
    assert done.code == 2 and "contrastive retrieves training samples and cannot be chained" in done.err
    done = mmtool("evaluate", toy / "commutative", toy / "shards", "--chain", "loretta,commutative", *out)
    assert done.code == 2 and "there is no run 'loretta'" in done.err and "Runs: commutative." in done.err
    done = mmtool("evaluate", toy / "commutative", toy / "shards", "--task", "retrieval", "--chain", "commutative", *out)
    assert done.code == 2 and "--chain has no effect without --task impute" in done.err
    assert not (tmp_path / "report").exists()


def test_a_run_that_needs_no_link_is_reported_to_need_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = make_shards(tmp_path / "shards", ("ab",))
    pretrain(settings(method="commutative", steps=2, checkpoint_every=0), shards, tmp_path / "run")
    config = EvaluationConfig(label="class", contact_samples=0, impute=CHAINED)
    done = evaluate([tmp_path / "run"], shards, tmp_path / "report", config)
    assert "commutative is chained nowhere" in capsys.readouterr().err
    assert NAME not in {row["run"] for row in done.rows}


@pytest.mark.slow
def test_a_comparison_asks_its_columns_link_by_link(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards")
    variants = {name: settings(method=name, steps=2, checkpoint_every=0) for name in ("causal", "commutative")}
    config = EvaluationConfig(label="class", contact_samples=0, limit=12, impute=CHAINED)
    done = compare(variants, [0, 1], shards, tmp_path / "out", config)
    assert {row["seeds"] for row in done.rows if row["run"] == NAME} == {2}
    assert "## commutative against the others" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(UsageError, match=r"contrastive retrieves"):
        config = EvaluationConfig(impute=ImputeOptions(chain=("contrastive",)))
        compare({"contrastive": settings(method="contrastive")}, [0], shards, tmp_path / "no", config)
    with pytest.raises(UsageError, match="only the task impute"):
        compare(variants, [0], shards, tmp_path / "no", EvaluationConfig(tasks=("retrieval",), impute=CHAINED))
    assert not (tmp_path / "no").exists()
