"""`evaluate` tells good imputation from bad, on every direction, and says what was never seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.signal import spectrogram
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score
from toy_study import toy_study

from mmtool.common.errors import DataError, UsageError
from mmtool.common.output import OutputPath
from mmtool.data.graph import CoOccurrence
from mmtool.data.identity import TrainingItems
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import open_token_set, write_split
from mmtool.evaluation import evaluate as stage
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.directions import Direction, directions
from mmtool.evaluation.figures.contact_sheet import name_lines
from mmtool.evaluation.figures.plots import colours
from mmtool.evaluation.report import _introduction
from mmtool.evaluation.tasks.imputation import _listed
from mmtool.imputation.imputer import Imputation
from mmtool.kinds import KINDS
from mmtool.metrics.intervals import perplexity, share
from mmtool.metrics.regression import compare_tables, r2_of, spearman_of
from mmtool.tokenizers.base import Tokenizer, fingerprint, to_bytes
from mmtool.tokenizers.table import TableTokenizer
from mmtool.tokenizers.text import TextTokenizer

pytestmark = pytest.mark.usefixtures("quick_baselines")

CLASSES = 4
WORDS = ("zero", "one", "two", "three")
PHRASES = ("the number {}", "I see {} birds", "page {}", "say {} now", "room {} is free", "{} red apples")


class PixelTokenizer:
    """8 x 8 pictures of 17 grey levels, one code per pixel."""

    kind, scheme, vocabulary_size, shape, positions = "image", "codec", 17, (8, 8), "grid"
    report: dict[str, Any] = {}  # noqa: RUF012

    def encode(self, values):
        return [value.reshape(-1).astype(np.uint16) for value in values]

    def decode(self, tokens):
        return [(code.reshape(8, 8, 1) * 15).astype(np.uint8) for code in tokens]

    def write(self, value, stem):
        Image.fromarray(value[:, :, 0]).save(stem.with_name(stem.name + ".png"))
        return stem

    def state(self):
        return {}, {}

    @classmethod
    def from_state(cls, tensors, settings):
        return cls()


class SampleTokenizer(PixelTokenizer):
    """Sound at 4 kHz, one code of 256 levels per sample."""

    kind, scheme, vocabulary_size, shape, positions = "audio", "codec", 256, None, "line"
    sample_rate_hz = 4000

    def encode(self, values):
        return [np.round((value + 1) * 127.5).astype(np.uint16) for value in values]

    def decode(self, tokens):
        return [(code / 127.5 - 1).astype(np.float32) for code in tokens]

    def features(self, value):
        return np.log(spectrogram(value, 4000, nperseg=64, noverlap=32)[2].T + 1e-6).astype(np.float32)

    def write(self, value, stem):
        path = stem.with_name(stem.name + ".wav")
        path.write_bytes(value.tobytes())
        return path


def tone(label: int, random: np.random.Generator) -> np.ndarray:
    time = np.arange(random.integers(600, 900)) / 4000
    return (0.5 * np.sin(2 * np.pi * (300 + 350 * label) * time) + 0.02 * random.standard_normal(len(time))).astype(np.float32)


def sentence(label: int, random: np.random.Generator) -> str:
    return str(random.choice(PHRASES)).format(WORDS[label])


def tokenizers() -> dict[str, Tokenizer]:
    text = TextTokenizer.fit([phrase.format(word) for phrase in PHRASES for word in WORDS], {}, seed=0)
    return {"image": PixelTokenizer(), "speech": SampleTokenizer(), "text": text}  # type: ignore[dict-item]


def modalities(fitted: dict[str, Tokenizer]) -> list[Modality]:
    return [Modality(name, t.kind, t.vocabulary_size, t.shape, t.positions, fingerprint(t), 1) for name, t in fitted.items()]


def make_samples(fitted: dict[str, Tokenizer], combinations: Sequence[Sequence[str]], count: int, seed: int) -> list[Sample]:
    random = np.random.default_rng(seed)
    images, digits = load_digits(return_X_y=True)
    samples = []
    for number in range(count):
        label = number % CLASSES
        values = {
            "image": images[random.choice(np.flatnonzero(digits == label))].reshape(8, 8, 1),
            "speech": tone(label, random),
            "text": sentence(label, random),
        }
        tokens = {name: fitted[name].encode([values[name]])[0] for name in combinations[number // CLASSES % len(combinations)]}
        samples.append(Sample(f"{seed}-{number:04d}", tokens, {"digit": WORDS[label]}))
    return samples


class FakeImputer:
    """Answers with a training sample: of the right class with probability `skill`, of any class otherwise."""

    has_likelihood, scores_by_token, reconstructs, target, poolings = True, False, False, None, ("mean",)
    provenance: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, method: str, skill: float, train: list[Sample], fitted: dict[str, Tokenizer]) -> None:
        self.method, self.seed, self.trained_on, self.skill, self.train = method, 0, "", skill, train
        self.training_items, self.run = TrainingItems.of(train), SimpleNamespace(data_fingerprints=[])
        self.modalities, self.tokenizers = modalities(fitted), fitted
        self.graph = CoOccurrence.of(sample.present for sample in train)

    def impute(self, samples, have, want, *, seed=0, params=None, draws=1):
        random = np.random.default_rng(seed)
        pool = [sample for sample in self.train if want in sample.tokens]
        return [Imputation([self._draw(sample, pool, random).tokens[want] for _ in range(draws)], [-1.0] * draws) for sample in samples]

    def score(self, samples, have, target):
        assert all(set(have) | {target} <= set(sample.tokens) for sample in samples)
        return [(len(sample.tokens[target]) * (2.0 - self.skill), len(sample.tokens[target])) for sample in samples]

    def _draw(self, sample, pool, random):
        right = [other for other in pool if other.labels.get("digit") == sample.labels.get("digit")]
        return (right if random.random() < self.skill else pool)[random.integers(len(right))]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards of disjoint pairs that meet in the image, complete held-out triples, and two runs: one good, one guessing."""
    monkeypatch.setitem(KINDS["image"].schemes, "codec", f"{__name__}:PixelTokenizer")
    monkeypatch.setitem(KINDS["audio"].schemes, "codec", f"{__name__}:SampleTokenizer")
    fitted = tokenizers()
    train = make_samples(fitted, [("image", "text"), ("image", "speech")], 240, seed=1)
    test = make_samples(fitted, [("image", "speech", "text")], 60, seed=2)
    for split, samples in (("train", train), ("test", test)):
        files = {name: to_bytes(tokenizer) for name, tokenizer in fitted.items()}
        for sample in samples:
            sample.split = split
        write_split(tmp_path / "shards" / split, modalities(fitted), files, samples, split=split)
    runs = {"good": FakeImputer("good", 0.95, train, fitted), "guessing": FakeImputer("guessing", 0.0, train, fitted)}
    monkeypatch.setattr(stage.Imputer, "open", classmethod(lambda cls, path, **_: runs[path.name]))
    return tmp_path


def evaluate_both(world: Path, *, force: bool = False, **settings: Any) -> stage.EvaluationSummary:
    runs, config = [world / "good", world / "guessing"], EvaluationConfig.of(**settings)
    return stage.evaluate(runs, world / "shards" / "test", world / "report", config, force=force)


def values(rows: Sequence[dict[str, Any]], run: str, metric: str) -> dict[str, float]:
    return {
        str(Direction(tuple(row["given"]), row["target"])): row["value"] for row in rows if (row["run"], row["metric"]) == (run, metric)
    }


def test_every_direction_is_evaluated_and_marked(world: Path) -> None:
    done = evaluate_both(world, contact_samples=0)
    assert min(done.classifiers.values()) > 0.9
    for run, low, high in (("good", 0.8, 1.0), ("guessing", 0.0, 0.5), ("marginal sample", 0.0, 0.5), ("nearest neighbour", 0.7, 1.0)):
        accuracy = values(done.rows, run, "accuracy")
        assert len(accuracy) == 9
        assert all(low <= value <= high for value in accuracy.values()), (run, accuracy)
    assert values(done.rows, "good", "perplexity")["text → speech"] == pytest.approx(np.exp(2 - 0.95))
    seen = {(tuple(row["given"]), row["target"]): row["seen"] for row in done.rows}
    assert [key for key, value in seen.items() if value] == [key for key in seen if "image" in (*key[0], key[1]) and len(key[0]) == 1]
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 60 for row in done.rows)
    assert done.contact_sheet is None


def write_held_out(world: Path, combinations: Sequence[Sequence[str]]) -> Path:
    fitted, path = tokenizers(), world / "other" / "test"
    samples = make_samples(fitted, combinations, 48, seed=3)
    for sample in samples:
        sample.split = "test"
    write_split(path, modalities(fitted), {name: to_bytes(tokenizer) for name, tokenizer in fitted.items()}, samples, split="test")
    return path


def test_all_directions_are_of_the_same_samples_where_those_are_complete(world: Path) -> None:
    data = write_held_out(world, [("image", "speech", "text"), ("image", "speech"), ("speech", "text")])
    runs, train = [world / "good", world / "guessing"], world / "shards" / "train"

    def numbers(complete: bool) -> dict[str, int]:
        config = EvaluationConfig.of(contact_samples=0, complete=complete)
        done = stage.evaluate(runs, data, world / f"report-{complete}", config, train=train)
        assert ("which hold every modality" in (done.report / "report.md").read_text()) == complete
        return {str(Direction(tuple(row["given"]), row["target"])): row["n"] for row in done.rows}

    assert set(numbers(complete=True).values()) == {16}
    everyone = numbers(complete=False)
    assert (everyone["speech → text"], everyone["image → text"]) == (48, 32), "those that hold what is given"


def test_without_complete_samples_it_is_said_what_to_leave_out(world: Path) -> None:
    data = write_held_out(world, [("image", "speech"), ("speech", "text")])
    with pytest.raises(DataError, match="none of 48 held-out samples holds all of image, speech, text") as raised:
        stage.evaluate([world / "good"], data, world / "report", EvaluationConfig.of(complete=True), train=world / "shards" / "train")
    assert "--complete" in str(raised.value)


def test_it_is_said_which_directions_the_held_out_samples_cannot_judge(world: Path) -> None:
    data = write_held_out(world, [("image", "speech"), ("image", "text")])
    evaluated = stage.evaluate(
        [world / "good"], data, world / "report", EvaluationConfig(contact_samples=0), train=world / "shards" / "train"
    )
    text = (evaluated.report / "report.md").read_text()
    assert "By labels alone, as no held-out sample holds both what is given and what is imputed: speech → text, text → speech" in text
    assert "Not evaluated, as no held-out sample holds all of these modalities: speech + text → image" in text
    enough = (evaluate_both(world, contact_samples=0, force=True).report / "report.md").read_text()
    assert "no held-out sample" not in enough and "Fewer than 20 samples" not in enough
    few = (evaluate_both(world, contact_samples=0, limit=12, force=True).report / "report.md").read_text()
    assert "Fewer than 20 samples judge" in few and "speech → text (n 12)" in few
    assert _listed(["a"] * 12) == ", ".join(["a"] * 12) and _listed(["a"] * 13).endswith("a ... (13 in all)")


@pytest.mark.figures
def test_the_report_can_be_read_looked_at_and_listened_to(world: Path) -> None:
    done = evaluate_both(world, contact_samples=5, draws=2)
    report = json.loads((done.report / "report.json").read_text())
    assert report["rows"] == done.rows
    assert report["meta"]["classes"] == sorted(WORDS)
    text = (done.report / "report.md").read_text()
    assert "| **text → speech** |" in text and "| image → text |" in text
    assert Image.open(done.report / "contact_sheet.png").size[0] > 1000
    assert {path.name for path in done.report.glob("accuracy.*")} == {"accuracy.png", "accuracy.svg"}
    assert (done.report / "audio" / "text-to-speech" / "00-good.wav").exists()
    assert (done.report / "texts.tsv").read_text().startswith("direction\tkey\tclass\tsource\tpredicted\ttext\n")
    page = (done.report / "report.html").read_text()
    assert page.count("<audio") > 10 and page.count("data:image/svg+xml") == 2 and "good: farthest from the truth" in page
    OutputPath(done.report, force=True).check_directory()  # nothing in it is foreign
    ranked = json.loads((done.report / "samples.json").read_text())["samples"]
    of_texts = [sample for sample in ranked if (sample["run"], sample["given"], sample["target"]) == ("guessing", ["image"], "text")]
    assert [sample["rank"] for sample in of_texts] == ["worst"] * 3 + ["best"] * 3
    assert of_texts[0]["distance"] > of_texts[-1]["distance"] and of_texts[0]["class"] in WORDS
    real, imputed = of_texts[0]["values"][-2:]
    assert (real["title"], imputed["title"]) == ("real text", "imputed text") and real["text"] != imputed["text"]


@pytest.mark.thorough
def test_the_same_evaluation_gives_the_same_report(world: Path) -> None:
    first = evaluate_both(world, contact_samples=2, limit=20)
    kept = {path.relative_to(first.report): path.read_bytes() for path in first.report.rglob("*") if path.is_file()}
    evaluate_both(world, contact_samples=2, limit=20, force=True)
    assert kept == {path.relative_to(first.report): path.read_bytes() for path in first.report.rglob("*") if path.is_file()}


def test_a_method_that_scores_token_by_token_is_scored_on_some_samples(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are imputed and classified; perplexity is of so many, taken evenly from all, and the report says of how many."""
    monkeypatch.setattr("mmtool.evaluation.outcomes.SCORED_BY_TOKEN", 25)
    slow: Any = stage.Imputer.open(world / "good")
    slow.scores_by_token, scored = True, slow.score
    asked: list[list[str]] = []
    slow.score = lambda samples, *rest: asked.append([sample.key for sample in samples]) or scored(samples, *rest)
    done = evaluate_both(world, contact_samples=0)
    counts = {(row["run"], row["metric"]): row["n"] for row in done.rows}
    assert counts["good", "accuracy"] == counts["guessing", "perplexity"] == 60 and counts["good", "perplexity"] == 20
    assert all(keys == [f"2-{number:04d}" for number in range(0, 60, 3)] for keys in asked)
    assert "| 20/60 |" in (done.report / "report.md").read_text()


def test_wrong_use_is_refused_in_words(world: Path) -> None:
    with pytest.raises(UsageError, match="Labels: digit"):
        evaluate_both(world, label="colour")
    with pytest.raises(UsageError, match="--train"):
        (world / "alone").mkdir()
        (world / "shards" / "test").rename(world / "alone" / "test")
        stage.evaluate([world / "good"], world / "alone" / "test", world / "report")
    assert not (world / "report").exists()


def test_a_run_of_another_tokenizer_is_refused(world: Path) -> None:
    imputer: Any = stage.Imputer.open(world / "good")
    imputer.modalities = [Modality(m.name, m.kind, m.vocabulary_size, m.shape, m.positions, "f" * 64, 1) for m in imputer.modalities]
    with pytest.raises(DataError, match=r"the tokenizer of 'image' differs: f{12} in the run good, [0-9a-f]{12} in the held-out data"):
        evaluate_both(world)


def test_samples_without_the_target_are_evaluated_by_class_alone(world: Path) -> None:
    """Held-out data with the missing modalities of the training data: imputed values have no truth beside them, but still a class."""
    known, held_out = open_token_set(world / "shards" / "train"), world / "shards" / "validation"
    samples = make_samples(tokenizers(), [("image", "text"), ("image", "speech")], 80, seed=3)
    write_split(held_out, known.modalities, known.tokenizers, samples, split="validation")
    done = stage.evaluate([world / "good"], held_out, world / "report", EvaluationConfig(contact_samples=3))
    assert "text → speech" in values(done.rows, "good", "accuracy")
    assert "text → speech" not in values(done.rows, "good", "perplexity")
    assert "image → speech" in values(done.rows, "good", "perplexity")


def test_tables_without_labels_are_compared_with_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    hidden = random.standard_normal((300, 3))
    rows = {name: (hidden @ random.standard_normal((3, 6)) + 0.1).astype(np.float32) for name in ("genes", "proteins")}
    rows["proteins"][::7, 2] = np.nan
    names = [f"f{i}" for i in range(6)]
    fitted = {name: TableTokenizer.fit(list(table), {"features": names}, seed=0) for name, table in rows.items()}
    tokens = {name: fitted[name].encode(list(table)) for name, table in rows.items()}
    samples = [Sample(f"{i:03d}", {name: tokens[name][i] for name in rows}, split="train" if i < 200 else "test") for i in range(300)]
    for split in ("train", "test"):
        files = {name: to_bytes(tokenizer) for name, tokenizer in fitted.items()}
        write_split(tmp_path / split, modalities(fitted), files, [sample for sample in samples if sample.split == split], split=split)
    imputer = FakeImputer("guessing", 0.0, samples[:200], fitted)
    monkeypatch.setattr(stage.Imputer, "open", classmethod(lambda cls, path, **_: imputer))
    done = stage.evaluate([tmp_path / "run"], tmp_path / "test", tmp_path / "report", EvaluationConfig(contact_samples=4))
    assert values(done.rows, "nearest neighbour", "r2")["genes → proteins"] > 0.5
    assert values(done.rows, "nearest neighbour", "spearman")["proteins → genes"] > 0.5
    assert values(done.rows, "guessing", "r2")["genes → proteins"] < 0.1
    assert {row["metric"] for row in done.rows} == {"perplexity", "r2", "spearman"}


def test_a_single_file_that_holds_splits(world: Path) -> None:
    from mmtool.data.shards import write_stream

    parts = [open_token_set(world / "shards" / split) for split in ("train", "test")]
    with open(world / "all.tar", "wb") as file:
        write_stream(file, parts[0].modalities, parts[0].tokenizers, [sample for part in parts for sample in part])
    done = stage.evaluate([world / "good"], world / "all.tar", world / "report", EvaluationConfig(limit=20, contact_samples=0))
    assert done.samples == 20


def test_directions_of_more_modalities() -> None:
    found = directions(["a", "b", "c", "d"])
    assert len(found) == len(set(found)) == 4 * 3 + 4 * 3 + 4
    assert Direction(("b", "c", "d"), "a") in found
    assert directions(["a", "b"]) == [Direction(("a",), "b"), Direction(("b",), "a")]


def test_a_target_is_imputed_from_what_its_samples_without_it_hold_most_often() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    graph = CoOccurrence({frozenset("abc"): 5, frozenset("abcd"): 9, frozenset("bcde"): 2, frozenset("bcdf"): 1, frozenset("ab"): 3})
    more = [direction for direction in directions(names, graph) if direction not in directions(names)]
    assert [str(direction) for direction in more if direction.target == "e"] == ["a + b + c → e", "a + b + c + d → e"]
    assert len({*more}) == len(more) and all(3 <= len(direction.given) <= 4 for direction in more)
    assert Direction(("b", "c", "d", "e"), "a") in more and directions(names[:4], graph) == directions(names[:4])


def test_seen_means_that_one_sample_held_all() -> None:
    pairs = CoOccurrence.of([("a", "b"), ("b", "c"), ("a", "c")])
    assert Direction(("a",), "b").seen(pairs)
    assert not Direction(("a", "b"), "c").seen(pairs)


def test_intervals() -> None:
    estimate = share(np.array([1.0] * 8 + [0.0] * 2))
    assert (estimate.value, round(estimate.low, 3), round(estimate.high, 3)) == (0.8, 0.490, 0.943)  # Wilson's, as tabulated
    assert share(np.ones(10)).low < 0.75
    spread = perplexity(np.array([1.0, 9.0, 4.0]), np.array([1.0, 3.0, 4.0]), seed=0)
    assert spread.value == pytest.approx(np.exp(14 / 8))
    assert spread.low < spread.value < spread.high


def test_table_scores_ignore_missing_truth() -> None:
    true = np.random.default_rng(0).standard_normal((50, 4))
    holes = true.copy()
    holes[:10, 1] = np.nan
    perfect = compare_tables(holes, true, seed=0)
    assert perfect["r2"].value == pytest.approx(1) and perfect["spearman"].value == pytest.approx(1)
    assert compare_tables(true, np.zeros_like(true), seed=0)["spearman"].value == 0
    assert compare_tables(np.ones((5, 2)), np.ones((5, 2)), seed=0) == {}


def test_every_baseline_has_a_colour() -> None:
    baselines = [f"imputer {number}" for number in range(12)]
    assert [*colours({"runs": [{"name": "mine"}], "baselines": baselines})] == ["mine", *baselines]


def test_what_a_resample_gives_is_what_its_rows_give() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(40, 6)).round(1)
    imputed = true + random.normal(size=true.shape).round()
    true[random.random(true.shape) < 0.1] = np.nan
    rows = random.integers(0, 40, 40)
    known = [~np.isnan(true[rows, column]) for column in range(6)]
    pairs = [(true[rows, column][kept], imputed[rows, column][kept]) for column, kept in enumerate(known)]
    expected = np.mean([spearmanr(*pair).statistic for pair in pairs])
    counts = np.stack([np.bincount(rows, minlength=40), np.ones(40)]).astype(float)
    assert spearman_of(true, imputed)(counts)[0] == pytest.approx(expected)
    assert r2_of(true, imputed)(counts)[0] == pytest.approx(np.mean([r2_score(*pair) for pair in pairs]))


def test_long_names_of_classes_are_broken_before_they_are_cut():
    def lines(text):
        return name_lines(text, (15, 12, 10), 104)[1]

    assert lines("seven") == ["seven"]
    assert lines("chopper_command-firing") == ["chopper_", "command-firing"]
    assert lines("w" * 40)[0].endswith("…")


def test_a_label_that_is_a_column_of_a_table_is_warned_of() -> None:
    known = toy_study().reference
    assert known.told_outright == {}
    column = known.tokenizers["a"].features[0]
    tables = toy_study(label=column).reference.told_outright
    assert tables == {column: ["a", "b", "c"]}
    meta = {"runs": [], "samples": {"test": 1, "train": 1}, "config": {"impute": {"chain": []}}, "upper_bounds": {"accuracy": {}}}
    parts = _introduction({**meta, "baselines": [], "raw_tables": [], "told_outright": tables})
    assert any(f"`{column}` is a column of a and b and c" in part for part in parts)
