"""No test sample was trained on: neither by a run or adapter, nor by a tokenizer, nor by what reference classifiers learn from."""

import csv
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Raw
from test_training import CLASSES, TOKENIZER, make_shards, modality, sample, settings

from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.train import adapt
from mmtool.artefacts import describe, lint
from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import write_sealed
from mmtool.comparison.grid import compare
from mmtool.data.identity import TrainingItems, content_field, content_of, identities, identity
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set, write_split
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.leaks import refuse_leaks, tokenizers_of
from mmtool.preprocessing.alignment import Alignment
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import from_bytes, read_fitted_on, to_bytes
from mmtool.training.config import FinetuneConfig, resolve
from mmtool.training.finetune import finetune
from mmtool.training.pretrain import pretrain

NUM_ENTITIES = 150
ROWS = SourceOptions(label_columns=("class",))
NAMES = ("lab", "gene")


@dataclass(frozen=True)
class World:
    """Tables of the same entities. tokens: by name, tokenized with seed 0; shards: by seed; run: on those of seed 0."""

    folder: Path
    tokens: dict[str, Path]
    shards: dict[int, Path]
    run: Path

    def keys(self, seed: int, split: str) -> set[str]:
        return set(open_token_set(self.shards[seed] / split).keys)


def write_table(path: Path, shift: float = 0.0) -> Path:
    random = np.random.default_rng(sum(map(ord, path.stem)))
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "class", "x", "y", "z"])
        rows = ((i, i % 3, random.normal(i % 3, 0.2, 3) + shift) for i in range(NUM_ENTITIES))
        writer.writerows([f"case{i:03d}", label, *values.round(3)] for i, label, values in rows)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("leaks")
    tokens = {name: folder / f"{name}.tar" for name in NAMES}
    for name, path in tokens.items():
        tokenize("table", [write_table(folder / f"{name}.csv")], path, name=name, options=ROWS)
    shards = {seed: folder / f"shards-{seed}" for seed in (0, 1)}
    for seed, path in shards.items():
        shard(list(tokens.values()), path, split=Split(seed=seed))
    pretrain(resolve(None, SMALL), shards[0], folder / "run")
    return World(folder, tokens, shards, folder / "run")


def evaluated(run: Path, data: Path, output: Path, train: Path | None = None, **settings: Any) -> Any:
    return evaluate([run], data, output, EvaluationConfig(label="class", **{"tasks": ("retrieval",), **settings}), train=train)


def counts(message: str) -> dict[str, int]:
    """`WHO: how many test samples it was trained on`, and all together."""
    whole = re.search(r"([\d,]+) of ([\d,]+) test samples are not held out", message)
    assert whole is not None, message
    found = {who: int(number) for number, who in re.findall(r"([\d,]+) by ([\w ]+?) \(for example", message)}
    return {**found, "any": int(whole[1]), "all": int(whole[2])}


def test_shards_split_anew_hold_out_nothing_from_the_run(world: World, tmp_path: Path) -> None:
    trained, test = world.keys(0, "train"), world.keys(1, "test")
    with pytest.raises(UsageError, match="Split every stage with the same seed and fractions") as refused:
        evaluated(world.run, world.shards[1] / "test", tmp_path / "report")
    leaked = len(trained & test)
    assert counts(str(refused.value)) == {
        "any": leaked, "all": len(test), "the run cm3": leaked, "the tokenizer of gene": leaked, "the tokenizer of lab": leaked,
    }  # fmt: skip
    first = sorted(trained & test)[:3]
    assert f"the run cm3 (for example {', '.join(map(repr, first))})" in str(refused.value)
    assert "shards that the run was trained on" in str(refused.value) and "--fit" in str(refused.value)
    assert not (tmp_path / "report").exists()


def test_only_samples_that_are_drawn_count(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of 5 test samples are not held out"):
        evaluated(world.run, world.shards[1] / "test", tmp_path / "report", limit=5, tasks=("impute",), contact_samples=0)


def test_samples_that_a_run_was_trained_on_are_not_out_of_distribution(world: World, tmp_path: Path) -> None:
    config = EvaluationConfig.of(label="class", tasks=("ood",), ood=str(world.shards[1] / "test"))
    with pytest.raises(UsageError, match="not held out, they were trained on"):
        evaluate([world.run], world.shards[0] / "test", tmp_path / "report", config)
    assert not (tmp_path / "report").exists()


def test_what_is_held_out_is_evaluated(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(world.run, world.shards[0] / "test", tmp_path / "test").rows
    assert evaluated(world.run, world.shards[0] / "validation", tmp_path / "validation").rows
    assert "free of leaks" not in capsys.readouterr().err


def test_a_tokenizer_that_was_fitted_on_test_samples_is_refused(world: World, tmp_path: Path) -> None:
    pretrain(resolve(None, SMALL), world.shards[1], tmp_path / "run")
    leaked = len(world.keys(0, "train") & world.keys(1, "test"))
    for call in (
        lambda: evaluated(tmp_path / "run", world.shards[1], tmp_path / "report"),
        lambda: compare({"cm3": resolve(None, SMALL)}, [0], world.shards[1], tmp_path / "comparison", EvaluationConfig(label="class")),
    ):
        with pytest.raises(UsageError, match="Tokenize anew with --fit") as refused:
            call()
        found = counts(str(refused.value))
        assert found.pop("all") == len(world.keys(1, "test"))
        assert found == {"any": leaked, "the tokenizer of gene": leaked, "the tokenizer of lab": leaked}
    assert not (tmp_path / "comparison").exists(), "refused before anything is trained"


def test_a_comparison_is_refused_before_training_on_its_test_samples(world: World, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    for split, seed in (("train", 0), ("test", 1)):
        part = open_token_set(world.shards[seed] / split)
        write_split(mixed / split, part.modalities, part.tokenizers, list(part), part.protocol, split=split)
    with pytest.raises(UsageError, match=r"by the runs \(for example"):
        compare({"cm3": resolve(None, SMALL)}, [0], mixed, tmp_path / "out", EvaluationConfig(label="class"))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_carries_its_training_items_to_other_data(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = [tmp_path / f"{name}.tar" for name in NAMES]
    for name, path in zip(NAMES, tokens, strict=True):
        tokenize(
            "table",
            [world.folder / f"{name}.csv"],
            path,
            name=name,
            options=ROWS,
            tokenizer=world.tokens[name],
            split=Split(seed=1),
            seed=1,
        )
        before, after = (open_token_set(file).tokenizers[name] for file in (world.tokens[name], path))
        assert before == after
    fitted_on = read_fitted_on(before)
    trained = [each for each in open_token_set(world.tokens["gene"]) if each.split == "train"]
    assert fitted_on is not None and set(fitted_on.tolist()) == {identity(each.key, each.tokens["gene"]) for each in trained}
    assert from_bytes(before).fitted_on is not None and to_bytes(from_bytes(before)) == before
    capsys.readouterr()
    shard(tokens, tmp_path / "shards", split=Split(seed=1))
    leaked = len(world.keys(0, "train") & (world.keys(1, "test") | world.keys(1, "validation")))
    assert f"warning: {leaked} held-out lab items are among those that their tokenizer was fitted on" in capsys.readouterr().err
    pretrain(resolve(None, SMALL), tmp_path / "shards", tmp_path / "run")
    with pytest.raises(UsageError, match="by the tokenizer of gene"):
        evaluated(tmp_path / "run", tmp_path / "shards", tmp_path / "report")


def test_reference_classifiers_learn_from_no_test_sample(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Give with --train the training split of the same shards") as refused:
        evaluated(world.run, world.shards[0] / "test", tmp_path / "report", train=world.shards[1] / "train")
    leaked = len(world.keys(0, "test") & world.keys(1, "train"))
    assert counts(str(refused.value)) == {"any": leaked, "all": len(world.keys(0, "test")), "the reference classifiers": leaked}


def renamed(world: World, folder: Path, change: Callable[[str], str]) -> Path:
    """Shards of the world's tables with other keys, tokenized alike, split with seed 1."""
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.csv").write_text(change((world.folder / f"{name}.csv").read_text()))
        tokenize("table", [folder / f"{name}.csv"], folder / f"{name}.tar", name=name, options=ROWS, tokenizer=world.tokens[name])
    shard([folder / f"{name}.tar" for name in NAMES], folder / "shards", split=Split(seed=1))
    return folder / "shards"


def test_a_trained_file_that_was_renamed_is_refused(world: World, tmp_path: Path) -> None:
    shards = renamed(world, tmp_path / "all", lambda text: text.replace("case", "copy"))
    test = {key.replace("copy", "case") for key in open_token_set(shards / "test").keys}
    with pytest.raises(UsageError, match=r"by the run cm3 under other keys \(for example 'copy") as refused:
        evaluated(world.run, shards, tmp_path / "report")
    assert counts(str(refused.value))["the run cm3 under other keys"] >= len(test & world.keys(0, "train"))
    (one,) = sorted(test & world.keys(0, "train"))[:1]
    single = write_held_out(world, tmp_path / "one", one)
    with pytest.raises(UsageError, match=r"by the run cm3 under other keys \(for example [^)]*'renamed'"):
        evaluated(world.run, single, tmp_path / "report", train=world.shards[0] / "train")
    assert not (tmp_path / "report").exists()


def test_what_a_tokenizer_was_fitted_on_is_known_under_other_keys(tmp_path: Path) -> None:
    """Cut keys deal samples to other splits."""
    rows = np.random.default_rng(0).normal(size=(60, 3)).round(4)
    (tmp_path / "t.csv").write_text("id,a,b,c\n" + "".join(f"S{i:03d}_wrist,{a},{b},{c}\n" for i, (a, b, c) in enumerate(rows)))
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "a.tar", name="t")
    cut = SourceOptions(label_pattern="^(?P<key>.{4})")
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "b.tar", name="t", tokenizer=tmp_path / "a.tar", options=cut)
    for path, is_leak in ((tmp_path / "a.tar", False), (tmp_path / "b.tar", True)):
        token_set = open_token_set(path)
        held_out = [sample for sample in token_set if sample.split == "test"]
        with pytest.raises(UsageError, match="by the tokenizer of t under other keys") if is_leak else nullcontext():
            refuse_leaks(held_out, tokenizers_of(token_set), path)


def write_held_out(world: World, folder: Path, leaked: str) -> Path:
    """The test split of the world, and one of its training samples under another name."""
    train, test = (open_token_set(world.shards[0] / split) for split in ("train", "test"))
    copy = replace(next(each for each in train if each.key == leaked), key="renamed")
    write_split(folder, test.modalities, test.tokenizers, [*list(test)[:3], copy], test.protocol, split="test")
    return folder


def noted(samples: list[Sample]) -> list[Sample]:
    """The same with the contents that tokenizing would note, one for each class."""
    return [
        replace(each, metadata={**each.metadata, **{content_field(name): content_of(str(each.labels)) for name in each.tokens}})
        for each in samples
    ]


def test_content_that_repeats_within_training_is_no_leak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = noted([sample(f"{i}", i % CLASSES, "abc", "train") for i in range(40)])  # of four sorts
    write_split(tmp_path / "shards/train", [modality(name) for name in "abc"], dict.fromkeys("abc", TOKENIZER), items, split="train")
    pretrain(settings(steps=2, checkpoint_every=0), tmp_path / "shards", tmp_path / "run")
    write_split(
        tmp_path / "test",
        [modality(name) for name in "abc"],
        dict.fromkeys("abc", TOKENIZER),
        noted([sample(f"t-{i}", i % CLASSES, "ab", "test") for i in range(20)]),
        split="test",
    )
    assert evaluated(tmp_path / "run", tmp_path / "test", tmp_path / "report", train=tmp_path / "shards/train").rows
    assert "under other keys. Training items repeat each other as often" in capsys.readouterr().err


def test_items_that_two_trainings_saw_are_no_repeats() -> None:
    items = [Sample(key, {"a": np.arange(3)}, metadata={content_field("a"): text}) for key, text in (("x", "aa"), ("y", "bb"), ("z", "bb"))]
    first, second = TrainingItems.of(items[:2]), TrainingItems.of(items)
    assert ((first | second).contents["a"] == second.contents["a"]).all() and len(second.contents["a"]) == 3
    assert list(second.contents["a"]) == [0xAA, 0xBB, 0xBB]
    assert ((first | second).keys == second.keys).all()


def test_other_data_under_the_same_keys_is_no_leak(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        other = write_table(tmp_path / f"{name}.csv", shift=0.5)
        tokenize("table", [other], tmp_path / f"{name}.tar", name=name, options=ROWS, tokenizer=world.tokens[name])
    shard([tmp_path / f"{name}.tar" for name in NAMES], tmp_path / "shards", split=Split(seed=1))
    assert evaluated(world.run, tmp_path / "shards" / "test", tmp_path / "report").rows
    same = len(world.keys(0, "train") & world.keys(1, "test"))
    assert f"{same} of {len(world.keys(1, 'test'))} test samples have keys that the run cm3 was trained on, with other content" in (
        capsys.readouterr().err
    )


def test_the_content_of_a_raw_value_is_all_of_it() -> None:
    values = ["a", "b", np.zeros(3), np.zeros(3, np.float32), np.zeros((3, 1)), np.ones(3), {"x": np.zeros(3)}, {"y": np.zeros(3)}]
    assert len({content_of(value) for value in values}) == len(values)
    assert content_of({"x": "a", "y": np.ones(2)}) == content_of({"y": np.ones(2), "x": "a"})


def test_an_item_is_its_key_and_its_content() -> None:
    codes = np.arange(5, dtype=np.uint16)
    assert identity("a", codes) == identity("a", codes.astype(np.uint32)) != identity("b", codes)
    assert identity("a", codes) != identity("a", codes + 1)


def test_a_finetuned_run_holds_what_it_and_its_pretrained_run_were_trained_on(world: World, tmp_path: Path) -> None:
    finetune(FinetuneConfig(label="class", steps=2), world.run, world.shards[1], tmp_path / "run")
    trained = {key for seed in (0, 1) for key in world.keys(seed, "train")}
    assert describe(tmp_path / "run")["trained_on"] == {name: len(trained) for name in NAMES}
    with pytest.raises(UsageError, match=rf"{len(world.keys(1, 'train') & world.keys(0, 'test'))} by the run cm3 \("):
        evaluated(tmp_path / "run", world.shards[0] / "test", tmp_path / "report")


def test_a_run_of_an_earlier_version_is_reported_as_unknown(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    pretrain(resolve(None, SMALL), world.shards[0], run)
    record = json.loads((run / "config.json").read_text())
    del record["trained_on"]
    write_sealed(run / "config.json", record)
    (run / "trained_on.safetensors").unlink()
    capsys.readouterr()
    assert evaluated(run, world.shards[0] / "test", tmp_path / "report").rows
    assert re.search("not known to be free of leaks.*: the run cm3$", capsys.readouterr().err, re.MULTILINE)
    with pytest.raises(UsageError, match="these are the training samples"):
        evaluated(run, world.shards[0] / "train", tmp_path / "none")
    finetune(FinetuneConfig(label="class", steps=2), run, world.shards[0], tmp_path / "finetuned")
    items = TrainingItems.read(
        tmp_path / "finetuned" / "trained_on.safetensors", json.loads((tmp_path / "finetuned" / "config.json").read_text())["trained_on"]
    )
    assert not items.complete and set(items.identities) == set(NAMES)


def test_a_damaged_record_is_found(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(resolve(None, SMALL), world.shards[0], run)
    assert lint(run) == []
    path = run / "trained_on.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "record of training items is not the one that was written" in lint(run)[0]
    path.unlink()
    with pytest.raises(DataError, match="record of training items cannot be read"):
        evaluated(run, world.shards[0] / "test", tmp_path / "report")


def test_an_adapter_and_its_encoders_are_refused_on_what_they_were_trained_on(tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", pairs=("ab",))
    make_shards(tmp_path / "alone", pairs=("a",))
    for name, data in (("a", "alone"), ("b", "shards")):
        pretrain(settings(method="masked", steps=2, checkpoint_every=0), tmp_path / data, tmp_path / name)
    sources = {name: tmp_path / name for name in "ab"}
    adapt(AdaptConfig(label="class", steps=2, batch=16), sources, tmp_path / "shards", tmp_path / "adapter")
    assert lint(tmp_path / "adapter") == []

    def held_out(*leaked: Sample) -> Path:
        fresh = [sample(f"t-{i}", i % CLASSES, "ab", "test") for i in range(20)]
        folder = tmp_path / f"held-out-{'-'.join(each.key for each in leaked)}"
        write_split(folder, [modality(name) for name in "ab"], dict.fromkeys("ab", TOKENIZER), [*fresh, *leaked], split="test")
        return folder

    def measure(data: Path) -> Any:
        from mmtool.adaptation.evaluate import evaluate_adapters

        return evaluate_adapters([tmp_path / "adapter"], data, tmp_path / f"report-{data.name}", missing_rates=[0.0])

    assert measure(held_out()).samples == 20
    with pytest.raises(UsageError, match=r"1 of 21 test samples.*1 by the adapter joint or its encoders \(for example 'ab-003'\)"):
        measure(held_out(sample("ab-003", 3, "ab", "test")))
    of_encoder = sample("a-004", 0, "ab", "test")
    with pytest.raises(UsageError, match=r"'a-004'"):
        measure(held_out(of_encoder))
    other = replace(of_encoder, tokens={**of_encoder.tokens, "a": (of_encoder.tokens["a"] + 1) % CLASSES})
    assert measure(held_out(other, sample("z-0", 0, "ab", "test"))).samples == 22


def test_an_augmented_variant_counts_as_its_original(raw: Raw, tmp_path: Path) -> None:
    labels = SourceOptions(label_pattern=r"(?P<digit>\d)$")
    small = {"depth": 1, "width": 16, "steps": 2, "codebook": 16}
    tokenize("image", [raw.images], tmp_path / "image.tar", name="image", options=labels, augment=2, settings=small)
    by_key = {each.key: each for each in open_token_set(tmp_path / "image.tar")}
    original, variant = by_key["case00"], by_key["case00~1"]
    assert identity("case00", original.tokens["image"]) in identities(variant, "image")
    tokenize("text", [raw.notes], tmp_path / "text.tar", name="text", options=labels)
    shard([tmp_path / "image.tar", tmp_path / "text.tar"], tmp_path / "aligned", alignment=Alignment("digit"))
    aligned = next(each for each in open_token_set(tmp_path / "aligned") if "~" in each.metadata["sources"]["image"])
    source = by_key[aligned.metadata["sources"]["image"].partition("~")[0]]
    assert identity(source.key, source.tokens["image"]) in identities(aligned, "image")
    shard([tmp_path / "image.tar", tmp_path / "text.tar"], tmp_path / "joined")
    joined = {each.key: each for each in open_token_set(tmp_path / "joined")}
    text = joined["case00"].tokens["text"]
    assert identity("case00", text) in identities(joined["case00~2"], "text")


def test_aligned_samples_that_share_items_within_their_split_are_clean(raw: Raw, tmp_path: Path) -> None:
    for name, path, kind in (("text", raw.notes, "text"), ("lab", raw.values, "table")):
        options = SourceOptions(label_pattern=r"(?P<digit>\d)$")
        tokenize(kind, [path], tmp_path / f"{name}.tar", name=name, options=options, split=Split((0.5, 0.0, 0.5)))
    shard(
        [tmp_path / "text.tar", tmp_path / "lab.tar"], tmp_path / "shards", split=Split((0.5, 0.0, 0.5)),
        alignment=Alignment("digit", pairs_per_class=20, aligned_per_class=9),
    )  # fmt: skip
    pretrain(resolve(None, SMALL), tmp_path / "shards", tmp_path / "run")
    assert evaluate([tmp_path / "run"], tmp_path / "shards", tmp_path / "report", EvaluationConfig(label="digit", contact_samples=0)).rows


def test_a_tokenizer_is_fitted_on_the_training_samples_that_a_label_names(tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    table = tmp_path / "lab.csv"
    lines = [f"case{i:02d},{'test' if i % 2 else 'train'},{i},{i % 5}" for i in range(40)]
    table.write_text("\n".join(["key,split,x,y", *lines]) + "\n")
    command = ["tokenize", "table", table, "--fit", "--name", "lab", "--label", "split", "--split-label", "split"]
    assert mmtool(*command, "-o", tmp_path / "lab.tar").code == 0
    tokens = open_token_set(tmp_path / "lab.tar")
    assert {each.split for each in tokens if each.labels["split"] == "test"} == {"test"}
    fitted_on = read_fitted_on(tokens.tokenizers["lab"])
    trained = TrainingItems.of(each for each in tokens if each.labels["split"] == "train")
    assert fitted_on is not None and (fitted_on == trained.identities["lab"]).all() and len(fitted_on) == 20
    done = mmtool("shard", tmp_path / "lab.tar", "--split-label", "split", "-o", tmp_path / "shards")
    assert done.code == 0 and "warning" not in done.err
