"""Protocols remove modalities reproducibly, pools stay disjoint, and nothing held out is ever trained on."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import sha256_bytes, sha256_file
from mmtool.data.graph import CoOccurrence
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shards import TokenSet, open_token_set, write_stream
from mmtool.preprocessing.alignment import Alignment
from mmtool.preprocessing.protocol import MissingnessProtocol, read_pairs, uniform
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.splits import Split

NAMES = ("image", "speech", "text")
PAIRS = (("image", "text"), ("image", "speech"))
KEYS = [f"case{i}" for i in range(2000)]
subsets = st.sets(st.sampled_from(NAMES), min_size=1)


def modality(name: str, tokenizer: bytes = b"fitted") -> Modality:
    return Modality(name, "text", 1000, None, "line", sha256_bytes(tokenizer), 0)


def write(path: Path, name: str, items: list[Sample], tokenizer: bytes = b"fitted") -> Path:
    with open(path, "wb") as file:
        write_stream(file, [modality(name, tokenizer)], {name: tokenizer}, items)
    return path


def item(name: str, key: str, labels: Mapping[str, Any] | None = None, **metadata: Any) -> Sample:
    """A sample whose single token says which item it is."""
    split = Split().of(str(metadata.get("group", metadata.get("variant_of", key))))
    return Sample(key, {name: np.array([int(uniform(0, key) * 1000)])}, dict(labels or {}), metadata, split)


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    """300 entities with image, speech and text."""
    return [write(tmp_path / f"{name}.tar", name, [item(name, key, {"digit": int(key[4:]) % 3}) for key in KEYS[:300]]) for name in NAMES]


def opened(path: Path) -> dict[str, TokenSet]:
    return {split: open_token_set(path, split) for split in SPLITS}


def within_bounds(count: int, number: int, rate: float) -> bool:
    """Within five standard deviations of a binomial."""
    return abs(count - number * rate) <= 5 * (number * rate * (1 - rate)) ** 0.5


@given(st.text(), subsets, st.integers(0, 5))
def test_a_protocol_is_a_pure_function_of_seed_and_key(key: str, present: set[str], seed: int) -> None:
    protocol = MissingnessProtocol(PAIRS, 0.5, seed=seed)
    assert protocol.kept(key, present, "train") == protocol.kept(key, sorted(present, reverse=True), "train")
    assert set(protocol.kept(key, present, "train")) <= present
    assert protocol.kept(key, present, "validation") == tuple(sorted(present))


@given(st.text(), subsets)
def test_pairs_are_kept_whole_or_not_at_all(key: str, present: set[str]) -> None:
    kept = MissingnessProtocol(PAIRS).kept(key, present, "train")
    served = [tuple(sorted(pair)) for pair in PAIRS if set(pair) <= present]
    assert kept in served if served else kept == ()
    kept = MissingnessProtocol(PAIRS, keep_unpaired=True).kept(key, present, "train")
    assert kept in served if served else (len(kept) == min(1, len(present)) and set(kept) <= present)


def test_pairs_share_the_samples_evenly() -> None:
    counts = Counter(MissingnessProtocol(PAIRS, seed=3).kept(key, NAMES, "train") for key in KEYS)
    assert set(counts) == {tuple(sorted(pair)) for pair in PAIRS}
    assert all(within_bounds(count, len(KEYS), 0.5) for count in counts.values())


def test_a_pair_with_a_share_is_as_much_rarer_than_the_others() -> None:
    protocol = MissingnessProtocol((*PAIRS, ("speech", "text", 0.1)), seed=3)
    counts = Counter(protocol.kept(key, NAMES, "train") for key in KEYS)
    assert within_bounds(counts["speech", "text"], len(KEYS), 0.1 / 2.1)
    assert all(within_bounds(counts[tuple(sorted(pair))], len(KEYS), 1 / 2.1) for pair in PAIRS)
    lone = Counter(protocol.kept(key, ["speech", "text"], "train") for key in KEYS)
    assert within_bounds(lone["speech", "text"], len(KEYS), 0.1) and lone[()] == len(KEYS) - lone["speech", "text"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_samples_loses_exactly_one(share: float) -> None:
    kept = [MissingnessProtocol(missing_rate=share, seed=1).kept(key, NAMES, "train") for key in KEYS]
    counts = Counter(len(names) for names in kept)
    assert set(counts) <= {2, 3} and within_bounds(counts[2], len(KEYS), share)
    lost = Counter((set(NAMES) - set(names)).pop() for names in kept if len(names) == 2)
    assert all(within_bounds(lost[name], len(KEYS), share / 3) for name in NAMES)


def test_rates_are_independent_and_leave_something() -> None:
    rates = {"image": 0.3, "text": 0.5}
    kept = [MissingnessProtocol(missing_rate=rates).kept(key, NAMES, "train") for key in KEYS]
    for name in NAMES:
        assert within_bounds(sum(name not in names for names in kept), len(KEYS), rates.get(name, 0.0))
    assert within_bounds(sum(names == ("speech",) for names in kept), len(KEYS), 0.15)
    survivors = Counter(MissingnessProtocol(missing_rate=dict.fromkeys(NAMES, 1.0)).kept(key, NAMES, "train") for key in KEYS)
    assert all(within_bounds(survivors[(name,)], len(KEYS), 1 / 3) for name in NAMES)
    assert MissingnessProtocol(missing_rate=1.0).kept("x", ["text"], "train") == ("text",)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"pairs": (("image", "image"),)}, "is not a pair"),
        ({"pairs": (("image", ""),)}, "is not a pair"),
        ({"pairs": (("image", "text"), ("text", "image"))}, "given twice"),
        ({"pairs": (("image", "text"), ("text", "image", 0.5))}, "given twice"),
        ({"pairs": (("image", "text", 0.0),)}, "0 is no share"),
        ({"pairs": (("image", "text", 1.5),)}, "1.5 is no share"),
        ({"pairs": (("image", "text", float("nan")),)}, "nan is no share"),
        ({"pairs": (("image", "text", "0.5"),)}, "'0.5' is no share"),
        ({"pairs": read_pairs(["image=0.5"])}, "'image,0.5' is not a pair"),
        ({"pairs": read_pairs(["image,text,speech=0.5"])}, "'image,text,speech,0.5' is not a pair"),
        ({"missing_rate": 1.5}, "no rate"),
        ({"missing_rate": {"image": -0.1}}, "no rate"),
        ({"missing_rate": float("nan")}, "no rate"),
        ({"missing_rate": {"image": "much"}}, "'much' is no rate"),
        ({"apply_to": ("dev",)}, "unknown split"),
    ],
)
def test_impossible_protocols_are_refused(protocol: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MissingnessProtocol(**protocol)


def test_sharding_joins_on_keys_and_removes_from_training_only(inputs: list[Path], tmp_path: Path) -> None:
    summary = shard(inputs, tmp_path / "out", protocol=MissingnessProtocol(PAIRS, seed=1))
    sets = opened(tmp_path / "out")
    assert summary.samples == {split: len(sets[split]) for split in SPLITS} and sum(summary.samples.values()) == 300
    assert set(summary.combinations["train"]) == {"image+text", "image+speech"}
    assert set(summary.combinations["validation"]) == set(summary.combinations["test"]) == {"image+speech+text"}
    assert summary.together["speech+text"] == 0 and summary.absent["train"]["image"] == 0
    assert summary.fingerprint == {split: sets[split].fingerprint for split in SPLITS}
    assert all(Split().of(key) == split for split in SPLITS for key in sets[split].keys)
    assert sets["train"].protocol["pairs"] == [list(pair) for pair in PAIRS] and sets["train"].protocol["split"]["seed"] == 0
    graph = CoOccurrence.of(sets["train"].present(i) for i in range(len(sets["train"])))
    assert graph.linking_modalities() == ["image"] and graph.path({"speech"}, "text") == ["speech", "image", "text"]


def test_the_order_of_inputs_and_the_size_of_shards_change_no_sample(inputs: list[Path], tmp_path: Path) -> None:
    protocol = MissingnessProtocol(missing_rate=0.5)
    shard(inputs, tmp_path / "a", protocol=protocol)
    shard(inputs[::-1], tmp_path / "b", protocol=protocol)
    shard(inputs, tmp_path / "c", protocol=protocol, samples_per_shard=7)
    files = [file.relative_to(tmp_path / "a") for file in sorted((tmp_path / "a").rglob("*.*"))]
    assert len(files) == 6
    assert all(sha256_file(tmp_path / "a" / file) == sha256_file(tmp_path / "b" / file) for file in files)
    a, c = open_token_set(tmp_path / "a"), open_token_set(tmp_path / "c")
    assert [(sample.key, sample.present) for sample in a] == [(sample.key, sample.present) for sample in c]


def test_one_more_sample_changes_no_other(inputs: list[Path], tmp_path: Path) -> None:
    more = [item("text", key, {"digit": int(key[4:]) % 3}) for key in KEYS[:301]]
    shard(inputs, tmp_path / "a", protocol=MissingnessProtocol(missing_rate=0.5))
    shard([*inputs[:2], write(tmp_path / "more.tar", "text", more)], tmp_path / "b", protocol=MissingnessProtocol(missing_rate=0.5))
    for split in SPLITS:
        before, after = ({s.key: s.present for s in open_token_set(tmp_path / name, split)} for name in "ab")
        assert before.items() <= after.items()


def test_unmatched_keys_are_absent_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write(tmp_path / "image.tar", "image", [item("image", key) for key in KEYS[:50]])
    text = write(tmp_path / "text.tar", "text", [item("text", key) for key in KEYS[10:60]])
    summary = shard([image, text], tmp_path / "out")
    assert summary.unmatched == {"image": 10, "text": 10} and sum(summary.samples.values()) == 60
    assert "10 samples have no image" in capsys.readouterr().err
    with pytest.raises(DataError, match="no training sample is left"):
        shard([image], tmp_path / "none", split=Split((0.0, 0.5, 0.5)))


def test_conflicts_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a.tar", "image", [item("image", "x", {"digit": 1}, group="p1")])
    for name, other, message in (
        ("image", item("image", "x"), "'x' is given twice for image"),
        ("text", item("text", "x", {"digit": 2}), "x: the label 'digit' is 1 in one input and 2"),
        ("text", item("text", "x", group="p2"), "x: its modalities belong to different groups: p1, p2"),
    ):
        b = write(tmp_path / "b.tar", name, [other])
        with pytest.raises(DataError, match=message):
            shard([a, b], tmp_path / "out")
    c = write(tmp_path / "c.tar", "image", [item("image", "y")], tokenizer=b"another")
    with pytest.raises(DataError, match="two tokenizers"):
        shard([a, c], tmp_path / "out")
    with pytest.raises(UsageError, match="no input holds the modality 'speech'"):
        shard([a], tmp_path / "out", protocol=MissingnessProtocol((("image", "speech"),)))
    with pytest.raises(UsageError, match="once only"):
        shard([None, None], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_parts_of_one_modality_are_concatenated(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{i}.tar", "image", [item("image", key) for key in KEYS[i::2][:20]]) for i in (0, 1)]
    shard(parts, tmp_path / "out.tar", split=Split((1, 0, 0)))
    assert open_token_set(tmp_path / "out.tar").keys == sorted(KEYS[:40])


def test_groups_stay_together_in_every_modality(tmp_path: Path) -> None:
    image = write(tmp_path / "image.tar", "image", [item("image", key, group=f"p{i % 30}") for i, key in enumerate(KEYS[:300])])
    text = write(tmp_path / "text.tar", "text", [item("text", key) for key in KEYS[:300]])
    shard([image, text], tmp_path / "out")
    groups = [{sample.metadata["group"] for sample in token_set} for token_set in opened(tmp_path / "out").values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 30


def test_labels_come_from_a_file_and_may_name_the_split(tmp_path: Path) -> None:
    image = write(tmp_path / "image.tar", "image", [item("image", key) for key in KEYS[:4]])
    (tmp_path / "clinical.csv").write_text("id,age,part\ncase0,61,train\ncase1,,dev\ncase2,55,test\ncase3,70,train\nother,1,train\n")
    summary = shard([image], tmp_path / "out", labels=tmp_path / "clinical.csv", split_label="part")
    assert summary.samples == {"train": 2, "validation": 1, "test": 1} and summary.unlabelled == 0
    assert open_token_set(tmp_path / "out")[0].labels == {"age": 61, "part": "train"}
    assert open_token_set(tmp_path / "out", "validation")[0].labels == {"age": None, "part": "dev"}
    with pytest.raises(DataError, match="which is no split"):
        shard([image], tmp_path / "bad", split_label="absent")
    with pytest.raises(UsageError, match="Choose from: id, age, part"):
        shard([image], tmp_path / "bad", labels=tmp_path / "clinical.csv", key_column="key")


def test_variants_take_what_they_lack_from_their_original_and_stay_in_training(tmp_path: Path) -> None:
    image = write(tmp_path / "image.tar", "image", [item("image", key, {"digit": 1}) for key in KEYS[:100]])
    originals = [item("speech", key) for key in KEYS[:100]]
    variants = [item("speech", f"{key}~1", variant_of=key, group=key) for key in KEYS[:100]]
    text = write(tmp_path / "text.tar", "text", [item("text", key) for key in KEYS[:100]])
    speech = write(tmp_path / "speech.tar", "speech", originals + variants)
    shard([image, speech, text], tmp_path / "out", protocol=MissingnessProtocol(PAIRS))
    sets = opened(tmp_path / "out")
    train = {sample.key: sample for sample in sets["train"]}
    assert len(train) == 2 * sum(Split().of(key) == "train" for key in KEYS[:100])
    for key in KEYS[:100]:
        if key in train:
            assert train[f"{key}~1"].present == train[key].present and train[f"{key}~1"].labels == {"digit": 1}
            assert train[f"{key}~1"].tokens["image"] == train[key].tokens["image"]
    assert not any("~" in key for split in SPLITS[1:] for key in sets[split].keys)


def corpora(folder: Path, sizes: Mapping[str, int]) -> list[Path]:
    """Corpora whose keys have nothing to do with each other, with a digit and a label of their own; speech has variants."""
    paths = []
    for name, size in sizes.items():
        items = [item(name, f"{i}", {"digit": i % 5, "source": f"{name} {i}"}) for i in range(size)]
        if name == "speech":
            items += [item(name, f"{i}~1", {"digit": i % 5, "source": f"{name} {i}"}, variant_of=f"{i}", group=f"{i}") for i in range(size)]
        paths.append(write(folder / f"{name}.tar", name, items))
    return paths


def aligned(folder: Path, pairs: Any = PAIRS, **options: Any) -> dict[str, TokenSet]:
    paths = corpora(folder, {"image": 600, "speech": 100, "text": 200})
    shard(paths, folder / "out", protocol=MissingnessProtocol(pairs, seed=2), alignment=Alignment("digit", **options))
    return opened(folder / "out")


def sources(token_set: TokenSet, names: tuple[str, ...] | None = None) -> dict[str, set[str]]:
    """Keys of the original items, by modality, of samples with just these modalities."""
    used: dict[str, set[str]] = {name: set() for name in NAMES}
    for sample in token_set:
        if names is None or sample.present == tuple(sorted(names)):
            for name, key in sample.metadata["sources"].items():
                used[name].add(key.split("~")[0])
    return used


def test_alignment_deals_disjoint_pools_and_leaks_nothing(tmp_path: Path) -> None:
    sets = aligned(tmp_path)
    used = {split: sources(sets[split]) for split in SPLITS}
    for name in NAMES:
        assert sum(len(used[split][name]) for split in SPLITS) == len(set().union(*(used[split][name] for split in SPLITS)))
    first, second = (sources(sets["train"], pair) for pair in PAIRS)
    assert not first["image"] & second["image"]
    assert abs(len(first["image"]) - len(second["image"])) <= 5
    assert len(first["image"] | second["image"]) == sum(Split().of(str(i)) == "train" for i in range(600))


def test_aligned_samples_agree_on_the_label_and_keep_the_others(tmp_path: Path) -> None:
    sets = aligned(tmp_path)
    paths = {name: open_token_set(tmp_path / f"{name}.tar") for name in NAMES}
    items = {name: {sample.key: sample for sample in token_set} for name, token_set in paths.items()}
    for sample in (sample for token_set in sets.values() for sample in token_set):
        for name, key in sample.metadata["sources"].items():
            assert items[name][key].labels["digit"] == sample.labels["digit"]
            assert sample.labels[f"{name}.source"] == items[name][key].labels["source"]
            assert sample.tokens[name] == items[name][key].tokens[name]
        assert set(sample.present) == set(sample.metadata["sources"])
    assert "train-image+text-3-000000" in sets["train"].keys
    assert not any("~" in key for split in SPLITS[1:] for sample in sets[split] for key in sample.metadata["sources"].values())
    assert any("~" in sample.metadata["sources"].get("speech", "") for sample in sets["train"])


def test_the_number_of_aligned_samples_is_the_larger_pool_or_as_asked(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    sets, told = aligned(tmp_path), aligned(tmp_path / "told", pairs_per_class=12, aligned_per_class=4)
    first = Counter((sample.labels["digit"], sample.present) for sample in sets["train"])
    pools = Counter(i % 5 for i in range(600) if Split().of(str(i)) == "train")
    pairs = [tuple(sorted(pair)) for pair in PAIRS]
    assert all(abs(first[digit, pair] - pools[digit] / 2) <= 0.5 for digit in range(5) for pair in pairs)
    assert Counter((s.labels["digit"], s.present) for s in told["train"]) == {(d, pair): 12 for d in range(5) for pair in pairs}
    assert Counter((s.labels["digit"], s.present) for s in told["test"]) == {(digit, NAMES): 4 for digit in range(5)}


def test_of_an_aligned_pair_with_a_share_there_are_as_many_fewer_from_a_pool_of_its_own(tmp_path: Path) -> None:
    pairs = (*PAIRS, ("speech", "text", 0.25))
    (tmp_path / "told").mkdir()
    train, told = aligned(tmp_path, pairs)["train"], aligned(tmp_path / "told", pairs, pairs_per_class=12)["train"]
    assert set(Counter(sample.labels["digit"] for sample in told if sample.present == ("speech", "text")).values()) == {3}
    for name, other in (("speech", "image"), ("text", "image")):
        rare, usual = sources(train, ("speech", "text"))[name], sources(train, (other, name))[name]
        assert not rare & usual
        assert 0.1 < len(rare) / len(rare | usual) < 0.3, "a fifth"


def test_an_aligned_pair_keeps_its_share_where_no_other_pair_holds_one_of_its_modalities(tmp_path: Path) -> None:
    train = aligned(tmp_path, (("image", "text"), ("text", "speech", 0.1)))["train"]
    counts = Counter((sample.labels["digit"], sample.present) for sample in train)
    pool = Counter(i % 5 for i in range(200) if Split().of(str(i)) == "train")
    pool += Counter(i % 5 for i in range(100) if Split().of(str(i)) == "train")
    assert all(0 < counts[digit, ("speech", "text")] <= 0.1 * pool[digit] + 1 for digit in range(5))


def test_a_pair_that_no_training_sample_keeps_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write(tmp_path / f"{name}.tar", name, [item(name, f"{i}") for i in range(40)]) for name in NAMES]
    shard(paths, tmp_path / "out", protocol=MissingnessProtocol((*PAIRS, ("speech", "text", 1e-9))))
    said = capsys.readouterr().err
    assert "no training sample holds speech+text" in said and said.count("no training sample") == 1


def test_alignment_is_reproducible_and_needs_the_label(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = aligned(tmp_path)["train"], aligned(tmp_path / "b")["train"]
    assert first.fingerprint == second.fingerprint
    paths = [tmp_path / "image.tar", write(tmp_path / "bare.tar", "text", [item("text", "x")])]
    with pytest.raises(DataError, match="x: this text has no label 'digit'"):
        shard(paths, tmp_path / "none", alignment=Alignment("digit"))
    with pytest.raises(DataError, match="cannot be split again"):
        shard([tmp_path / "out"], tmp_path / "again")
    with pytest.raises(UsageError, match="at least one sample"):
        Alignment("digit", pairs_per_class=0)


def test_a_class_that_a_modality_lacks_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write(tmp_path / "image.tar", "image", [item("image", str(i), {"digit": i % 5}) for i in range(200)])
    text = write(tmp_path / "text.tar", "text", [item("text", str(i), {"digit": i % 4}) for i in range(200)])
    summary = shard([image, text], tmp_path / "out", alignment=Alignment("digit"))
    assert {sample.labels["digit"] for sample in open_token_set(tmp_path / "out")} == {0, 1, 2, 3}
    assert "nothing to align for train-image+text-4 (no text)" in capsys.readouterr().err
    assert set(summary.combinations["train"]) == {"image+text"}


def test_held_out_items_that_were_trained_on_are_reported(inputs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(inputs, tmp_path / "same")
    assert "warning" not in capsys.readouterr().err
    shard(inputs, tmp_path / "other", split=Split(seed=9))
    assert "held-out image items were training items when tokenized" in capsys.readouterr().err


def test_a_stream_goes_in_and_out(inputs: list[Path], tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mmtool.preprocessing.shard import shard;shard([None, *map(Path, sys.argv[1:])], None)"
    )
    command = [sys.executable, "-c", program, str(inputs[1])]
    done = subprocess.run(command, input=inputs[0].read_bytes(), capture_output=True, check=True)
    (tmp_path / "out.tar").write_bytes(done.stdout)
    shard(inputs[:2], tmp_path / "out")
    for split in SPLITS:
        streamed, stored = open_token_set(tmp_path / "out.tar", split), open_token_set(tmp_path / "out", split)
        assert streamed.keys == stored.keys and [s.tokens for s in streamed] == [s.tokens for s in stored]
    cut = subprocess.run(command, input=inputs[0].read_bytes()[:-512], capture_output=True)
    assert cut.returncode != 0 and cut.stdout == b"" and b"upstream probably failed" in cut.stderr


def test_the_graph_survives_json() -> None:
    graph = CoOccurrence.of([("a", "b"), ("b", "c"), ("b", "c"), ("c", "d"), ("b", "d"), ("e",)])
    assert graph.edges == {("a", "b"): 1, ("b", "c"): 2, ("b", "d"): 1, ("c", "d"): 1}
    assert graph.path({"a"}, "d") == ["a", "b", "d"] and graph.path({"a"}, "e") is None and graph.path({"a"}, "a") == ["a"]
    assert graph.linking_modalities() == ["b"] and not graph.linked("a", "c") and graph.linked("c", "b")
    assert CoOccurrence.from_json(json.loads(json.dumps(graph.to_json()))).combinations == graph.combinations


def test_an_edge_is_rare_beside_the_way_around_it() -> None:
    graph = CoOccurrence({frozenset("ab"): 100, frozenset("bc"): 80, frozenset("ac"): 7, frozenset("cd"): 3})
    assert graph.without_rare(0.0) == graph
    assert graph.without_rare(0.1).rare == {("a", "c")}, "and nothing leads around c - d"
    assert graph.without_rare(0.1).path({"a"}, "c") == ["a", "b", "c"] and graph.without_rare(1.0).linked("b", "c")


def test_equal_shortest_paths_prefer_the_stronger_link() -> None:
    graph = CoOccurrence.of([("a", "x"), ("x", "c"), ("a", "y"), ("a", "y"), ("y", "c")])
    assert graph.path({"a"}, "c") == ["a", "y", "c"] and graph.weakest_link(["a", "y", "c"]) == 1


def test_nothing_is_written_before_all_is_checked(inputs: list[Path], tmp_path: Path) -> None:
    shard(inputs[:1], tmp_path / "taken")
    with pytest.raises(UsageError, match="exists already"):
        shard([Path("absent")], tmp_path / "taken")
    with pytest.raises(UsageError, match="nothing to join"):
        shard([], tmp_path / "out")
    with pytest.raises(UsageError, match="make no shard"):
        shard(inputs, tmp_path / "out", samples_per_shard=0)
    shard(inputs, tmp_path / "taken", force=True)
    assert len(open_token_set(tmp_path / "taken").modalities) == len(inputs)


@given(share=st.floats(0, 1), higher=st.floats(0, 1), names=subsets, missing=st.sets(st.sampled_from(NAMES)), num_missing=st.integers(1, 3))
def test_a_share_of_samples_loses_what_may_be_lost_and_nested_shares_lose_the_same(
    share: float, higher: float, names: set[str], missing: set[str], num_missing: int
) -> None:
    low, high = sorted((share, higher))
    few, many = (MissingnessProtocol(missing_rate=rate, missing=tuple(sorted(missing)), num_missing=num_missing) for rate in (low, high))
    for key in KEYS[:50]:
        kept = few.kept(key, names, "train")
        lost = names - set(kept)
        assert kept and lost <= (missing or names)
        assert len(lost) in (0, min(num_missing, len(names) - 1, len((missing or names) & names)))
        assert not lost or lost == names - set(many.kept(key, names, "train"))


def test_a_named_modality_is_lost_at_the_share_and_any_of_two_in_equal_parts() -> None:
    named, both = MissingnessProtocol(missing_rate=0.7, missing=("text",)), MissingnessProtocol(missing_rate=0.7)
    pair = ("image", "text")
    assert within_bounds(sum(named.kept(key, pair, "train") == ("image",) for key in KEYS), len(KEYS), 0.7)
    assert all("image" in named.kept(key, pair, "train") for key in KEYS)
    for name in pair:
        assert within_bounds(sum(both.kept(key, pair, "train") == (name,) for key in KEYS), len(KEYS), 0.35)
    assert "missing" not in both.to_json() and named.to_json()["missing"] == ["text"]
    with pytest.raises(UsageError, match="share"):
        MissingnessProtocol(missing=("text",))


def test_samples_with_too_few_modalities_are_left_out_of_every_split() -> None:
    protocol = MissingnessProtocol(missing_rate=0.5, least=2)
    assert protocol.to_json()["least"] == 2 and "least" not in MissingnessProtocol().to_json()
    assert {protocol.kept(f"k{i}", {"a"}, split) for i in range(20) for split in SPLITS} == {()}
    assert {len(protocol.kept(f"k{i}", {"a", "b"}, "train")) for i in range(50)} == {1, 2}
    with pytest.raises(UsageError, match="no sample holds 0"):
        MissingnessProtocol(least=0)


@pytest.mark.parametrize(
    ("written", "pair"),
    [
        ("image,text", ("image", "text")),
        (" image , text = 0.5", ("image", "text", 0.5)),
        (("a", "b"), ("a", "b")),
        (["a", "b", 0.1], ("a", "b", 0.1)),
    ],
)
def test_a_pair_may_be_written_with_its_share(written: Any, pair: Any) -> None:
    assert read_pairs([written]) == (pair,)


def test_a_share_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="'much' is no share"):
        read_pairs(["image,text=much"])
