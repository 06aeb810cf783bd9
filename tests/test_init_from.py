"""Promise: a run begins with the weights of another one, keeps all that its modalities have learned, and knows where it comes from."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_extension import make_tables, setting, table
from test_training import CLASSES, TOKENIZER, sample

from mmtool.artefacts import describe
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import sha256_bytes
from mmtool.data.graph import CoOccurrence
from mmtool.data.identity import TrainingItems
from mmtool.data.layout import VocabularyLayout, layout_of
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import slot_start
from mmtool.data.shards import write_split
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.imputation.imputer import Imputer
from mmtool.methods import METHODS
from mmtool.model.transfer import transfer
from mmtool.model.transformer import Transformer
from mmtool.tokenizers.base import to_bytes
from mmtool.tokenizers.table import TableTokenizer
from mmtool.training.config import check
from mmtool.training.loop import Loop
from mmtool.training.pretrain import pretrain, shape_of
from mmtool.training.run import make_method, open_run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of tables b, c and d, a run on them, and shards of the same and of a, which comes before them in the order of names."""
    folder = tmp_path_factory.mktemp("initial")
    make_tables(folder / "three", ("bc", "cd"))
    make_tables(folder / "shards", ("ab", "ac", "ad"))
    make_tables(folder / "fewer", ("ab", "ad"))
    pretrain(setting(method="commutative"), folder / "three", folder / "base")
    return folder


def untrained(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Filled with the weights that the next training begins with."""
    begun: dict[str, torch.Tensor] = {}
    real = Loop.train

    def train(self: Loop, *arguments: Any) -> None:
        begun.update({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        real(self, *arguments)

    monkeypatch.setattr(Loop, "train", train)
    return begun


def test_a_fourth_modality_is_added_and_every_old_weight_is_kept(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, base = untrained(monkeypatch), open_run(world / "base")
    pretrain(setting(method="commutative", steps=2), world / "shards", tmp_path / "run", init_from=world / "base")
    run = open_run(tmp_path / "run")
    old, new, weights = base.layout, run.layout, base.checkpoint().model
    assert new.names == ("a", "b", "c", "d") and begun.keys() == weights.keys()
    fresh = fresh_weights(run.record["config"]["seed"], new, base)
    for name, tensor in weights.items():
        if name == "ordinal.bridge.weights_embedding":
            continue
        rows = rows_of(name, old, new)
        if rows is None:
            assert torch.equal(begun[name], tensor), name
            continue
        kept = torch.zeros(len(begun[name]), dtype=torch.bool)
        for before, after in rows:
            kept[after] = True
            assert torch.equal(begun[name][after], tensor[before]), (name, before)
        assert 0 < (~kept).sum() < len(kept)
        assert torch.equal(begun[name][~kept], fresh[name][~kept]), f"{name}: what is new is fresh"
    bridge, before = begun["ordinal.bridge.weights_embedding"], weights["ordinal.bridge.weights_embedding"]
    after = [0, *range(7, 7 + 18)]  # position 0, then six of the new modality, then those of b, c and d
    assert torch.equal(bridge[after][:, after], before) and before.abs().sum() > 0
    assert bridge[1:7].abs().sum() == 0 == bridge[:, 1:7].abs().sum()


def rows_of(name: str, old: VocabularyLayout, new: VocabularyLayout) -> list[tuple[int, int]] | None:
    """(row in the old table, row in the new one), None of a tensor that belongs to no modality."""
    pairs = list(enumerate(new.index(name) for name in old.names))
    if name in ("token_embedding.weight", "head"):
        shared = [(row, row) for row in range(9)]
        return shared + [(old.open_id(a) + i, new.open_id(b) + i) for a, b in pairs for i in range(2 + CLASSES + 1)]
    if name == "modality_embedding.weight":
        return pairs
    if name in ("slot_embedding.weight", "ordinal.values_in_embedding", "ordinal.values_out_embedding"):
        return [(0, 0)] + [(slot_start(old, a) + i, slot_start(new, b) + i) for a, b in pairs for i in range(6)]
    return None


def fresh_weights(seed: int, layout: VocabularyLayout, base: Any) -> dict[str, torch.Tensor]:
    model = Transformer(base.shape, layout)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model.state_dict()


def test_what_it_knew_it_still_says(world: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the old directions score as before: the new modality changes nothing of them."""
    config = setting(method="commutative", steps=1, learning_rate=1e-12)
    pretrain(config, world / "shards", tmp_path / "run", init_from=world / "base")
    samples = [sample(f"v-{i:03d}", i % CLASSES, "bcd", "validation") for i in range(12)]
    scores = [Imputer.open(path, device="cpu").score(samples, ["b"], "c") for path in (world / "base", tmp_path / "run")]
    assert np.allclose([nll for nll, _ in scores[0]], [nll for nll, _ in scores[1]], rtol=1e-4)


LAB = Modality("lab", "table", 5, (4,), "set", "f" * 64, 4, ordered=4)
NOTES = Modality("notes", "text", 9, None, "line", "f" * 64, 7)
PHOTO = Modality("photo", "image", 0, (2, 2, 12), "grid", "f" * 64, 4)
GENE = Modality("gene", "table", 6, (3,), "set", "f" * 64, 3, ordered=5)
WORDS = Modality("words", "text", 8, None, "line", "f" * 64, 5)
SCAN = Modality("scan", "image", 0, (2, 2, 27), "grid", "f" * 64, 4)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "loretta"])
def test_features_of_old_modalities_are_the_same_beside_new_ones_and_in_another_order(name: str) -> None:
    few, more = [LAB, NOTES], [WORDS, NOTES, GENE, LAB]
    if name == "m3ae":
        few, more = [PHOTO, *few], [SCAN, *more, PHOTO]
    (small, method), (large, wider) = (build(name, layout_of(each), seed) for seed, each in enumerate((few, more)))
    transfer(small.state_dict(), small.layout, large, name)
    random = np.random.default_rng(0)
    tokens = {
        "lab": random.integers(5, size=4).astype(np.uint16),
        "notes": random.integers(9, size=6).astype(np.uint16),
        "photo": random.integers(256, size=(4, 12)).astype(np.uint8),
    }
    for held in few:
        samples = [Sample("x", {held.name: tokens[held.name]})]
        before, after = method.features(small, samples, [held.name]), wider.features(large, samples, [held.name])
        assert np.allclose(before, after, atol=1e-6) and np.abs(before).sum() > 0.1, held.name


def build(name: str, layout: VocabularyLayout, seed: int) -> tuple[Transformer, Any]:
    graph = CoOccurrence({frozenset(layout.names): 9})
    config = check({"method": name, "preset": "tiny", "shape": {"depth": 1, "width": 32}})
    method = make_method(config, layout, graph)
    model = method.model(shape_of(config))
    model.init_weights(torch.Generator().manual_seed(seed))
    if model.ordinal is not None:
        torch.nn.init.normal_(model.ordinal.values_out_embedding, generator=torch.Generator().manual_seed(seed))
    return model.eval(), method


def test_it_says_where_it_comes_from(mmtool: Callable[..., Any], world: Path, tmp_path: Path) -> None:
    run, small = (
        tmp_path / "run",
        ("--set", "shape.depth=1", "--set", "shape.width=32", "--batch-tokens", 512, "--no-compile", "--set", "value_epochs=0"),
    )
    command = ["pretrain", world / "shards", "--init-from", world / "base", "--steps", 2, *small, "-o", run]
    done = mmtool(*command)
    assert done.code == 0, done.err
    assert f"beginning with the weights of {world / 'base'} (step 12); a is new to it, with fresh embeddings" in done.err
    origin, weights = describe(run)["init_from"], world / "base/checkpoints/00000012/model.safetensors"
    assert (origin["run"], origin["step"], origin["sha256"]) == ("base", 12, sha256_bytes(weights.read_bytes()))
    assert origin["sha256"] in mmtool("info", run).out and mmtool("lint", run).code == 0
    assert "nothing to do" in mmtool(*command).err, "the same command continues"
    assert mmtool(*command[:2], *command[4:]).code == 0, "which need not name the other run again"


def test_pairs_that_the_first_run_saw_count_as_seen(world: Path, tmp_path: Path) -> None:
    pretrain(setting(method="commutative", steps=1), world / "shards", tmp_path / "run", init_from=world / "base")
    graph = open_run(tmp_path / "run").graph
    assert graph.edges == {("a", "b"): 160, ("a", "c"): 160, ("a", "d"): 160, ("b", "c"): 160, ("c", "d"): 160}


def test_what_the_first_run_was_trained_on_is_never_judged(world: Path, tmp_path: Path) -> None:
    pretrain(setting(method="commutative", steps=1), world / "shards", tmp_path / "run", init_from=world / "base")
    pretrain(setting(method="commutative", steps=1), world / "shards", tmp_path / "again", init_from=tmp_path / "run")

    def held_out(*leaked: Sample) -> Path:
        folder = tmp_path / f"held-out-{len(leaked)}"
        folder.mkdir(exist_ok=True)
        fresh = [sample(f"t-{i}", i % CLASSES, "abcd", "test") for i in range(20)]
        write_split(folder, [table(name) for name in "abcd"], dict.fromkeys("abcd", TOKENIZER), [*fresh, *leaked], split="test")
        return folder

    def judge(run: Path, data: Path) -> Any:
        config = EvaluationConfig(label="class", tasks=("retrieval",))
        return evaluate([run], data, tmp_path / f"report-{run.name}-{data.name}", config, train=world / "shards/train")

    leaked = sample("bc-003", 3, "bc", "test")  # in `three` alone
    assert judge(tmp_path / "run", held_out()).rows
    for run in ("run", "again"):
        with pytest.raises(UsageError, match=r"1 of 21 test samples are not held out.*1 by the run commutative \(for example 'bc-003'\)"):
            judge(tmp_path / run, held_out(leaked))


def test_nor_does_validation_choose_by_it(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tables(tmp_path / "shards", ("ab", "ac", "ad"))
    held_out = [sample(f"v-{i:03d}", i % CLASSES, "abcd", "validation") for i in range(6)]
    shutil.rmtree(tmp_path / "shards/validation")
    (tmp_path / "shards/validation").mkdir()
    items = [*held_out, sample("bc-003", 3, "bc", "validation"), sample("cd-001", 1, "cd", "validation")]
    kinds = [table(name) for name in "abcd"]
    write_split(tmp_path / "shards/validation", kinds, dict.fromkeys("abcd", TOKENIZER), items, split="validation")
    measured: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmtool.training.pretrain._validate", lambda trainer, samples: measured.extend(each.key for each in samples) or {})
        config = setting(method="commutative", steps=1, validation_samples=99)
        pretrain(config, tmp_path / "shards", tmp_path / "run", init_from=world / "base")
    assert sorted(measured) == [each.key for each in held_out]
    assert "2 of 8 validation samples are left out: the run base was trained on them" in capsys.readouterr().err


def test_the_training_samples_of_the_first_run_are_refused_even_where_it_recorded_none(world: Path, tmp_path: Path) -> None:
    """As versions before 0.4 did: then their fingerprint alone is known."""
    pretrain(setting(method="commutative", steps=1), world / "three", tmp_path / "run", init_from=world / "base")
    run = open_run(tmp_path / "run")
    assert run.data_fingerprints == [run.record["data"], open_run(world / "base").record["data"]]
    assert TrainingItems.read(tmp_path / "run/trained_on.safetensors", run.record["trained_on"]).complete
    pretrain(setting(method="commutative", steps=1), world / "shards", tmp_path / "further", init_from=world / "base")
    with pytest.raises((UsageError, DataError), match=r"training samples|differs"):
        evaluate([tmp_path / "further"], world / "three/train", tmp_path / "report", train=world / "shards/train")


def test_what_does_not_fit_is_refused(world: Path, tmp_path: Path) -> None:
    def begin(config: Any, data: Path, name: str = "run", base: str = "base") -> Any:
        return pretrain(config, data, tmp_path / name, init_from=world / base)

    common = {"method": "commutative", "steps": 2}
    with pytest.raises(UsageError, match=r"the data has no modality 'c', which .*base was trained on"):
        begin(setting(**common), world / "fewer")
    deeper = check({**setting(**common).to_json(), "shape": {"depth": 2, "width": 32}})
    with pytest.raises(UsageError, match=r"depth 2 instead of 1.*Add --preset small --set shape.depth=1 --set shape.width=32"):
        begin(deeper, world / "shards")
    with pytest.raises(
        UsageError, match=r"of m3ae is not .*bias True instead of False.* Add --method commutative --preset small --set shape"
    ):
        begin(setting(method="m3ae", steps=2), world / "shards")
    alike = check({**setting(method="m3ae").to_json(), "shape": {"depth": 1, "width": 32, "bias": False, "positions": "rotary"}})
    with pytest.raises(UsageError, match=r"built differently.* \(--method commutative\)"):
        begin(alike, world / "shards", "alike")
    assert not (tmp_path / "run").exists()
    settings = {"features": [f"f{i}" for i in range(5)], "n_bins": CLASSES}
    other = to_bytes(TableTokenizer.fit(list(np.random.default_rng(1).normal(size=(99, 5)).astype(np.float32)), settings, 0))
    changed = replace(table("b"), tokenizer=sha256_bytes(other))
    items = [sample(f"x-{i}", i % CLASSES, "bcd") for i in range(40)]
    (tmp_path / "other/train").mkdir(parents=True)
    write_split(
        tmp_path / "other/train", [changed, table("c"), table("d")], {"b": other, "c": TOKENIZER, "d": TOKENIZER}, items, split="train"
    )
    with pytest.raises(DataError, match=r"its b was made by the tokenizer .*Tokenize the raw files again"):
        begin(setting(**common), tmp_path / "other")
    begin(setting(**common), world / "shards", "mine")
    pretrain(setting(method="commutative", steps=3), world / "three", tmp_path / "second")
    with pytest.raises(UsageError, match="other weights to begin with"):
        pretrain(setting(**common), world / "shards", tmp_path / "mine", init_from=tmp_path / "second")


def test_killed_before_its_first_checkpoint_it_begins_with_the_same_weights(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = setting(method="commutative", steps=2), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Loop, "train", lambda *arguments: (_ for _ in ()).throw(MemoryError()))
        pretrain(config, world / "shards", run, init_from=world / "base")
    begun = untrained(monkeypatch)
    pretrain(config, world / "shards", run)
    trained = dict(begun)
    pretrain(config, world / "shards", tmp_path / "whole", init_from=world / "base")
    assert all(torch.equal(begun[name], tensor) for name, tensor in trained.items())
