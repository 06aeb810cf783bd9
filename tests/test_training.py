"""Promises of the training: it learns, resumes bit for bit after any end, refuses what it must not mix, never steps on a NaN."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import write_sealed
from mmtool.common.storage import sha256_bytes
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.loader import Loader, mixture, sample_seed
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import open_token_set, write_split
from mmtool.imputation.imputer import Imputer
from mmtool.methods.base import Step
from mmtool.methods.causal import Causal, CausalOptions
from mmtool.methods.cm3 import CM3, CM3Options
from mmtool.methods.loretta import LoReTTa, LoReTTaOptions
from mmtool.model.transformer import Block
from mmtool.tokenizers.base import to_bytes
from mmtool.tokenizers.table import TableTokenizer
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.checks import Checks
from mmtool.training.config import options_of, resolve
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run
from mmtool.training.trainer import Trainer

CLASSES = 4
LENGTH = 5


def tokenizer_bytes():
    """A real table tokenizer of LENGTH features with CLASSES bins (and one id for missing values)."""
    values = np.random.default_rng(0).normal(size=(200, LENGTH)).astype(np.float32)
    settings = {"features": [f"f{i}" for i in range(LENGTH)], "n_bins": CLASSES}
    return to_bytes(TableTokenizer.fit(list(values), settings, 0))


TOKENIZER = tokenizer_bytes()


def modality(name):
    return Modality(name, "table", CLASSES + 1, (LENGTH,), "set", sha256_bytes(TOKENIZER), LENGTH)


def sample(key, label, names, split="train"):
    """Every modality shows the class in its first three features and noise in the others."""
    random = np.random.default_rng(abs(hash_of(key)))
    tokens = {}
    for name in names:
        codes = random.integers(CLASSES, size=LENGTH)
        codes[:3] = (label + ord(name)) % CLASSES
        tokens[name] = codes.astype(np.uint16)
    return Sample(key, tokens, {"class": label}, {}, split)


def hash_of(key):
    return int(sha256_bytes(key.encode())[:12], 16)


def make_shards(folder: Path, pairs=("ab", "bc")):
    names = sorted(set("".join(pairs)))
    train = [sample(f"{pair}-{i:03d}", i % CLASSES, pair) for pair in pairs for i in range(160)]
    held_out = [sample(f"v-{i:03d}", i % CLASSES, names, "validation") for i in range(48)]
    tokenizers = dict.fromkeys(names, TOKENIZER)
    for split, samples in (("train", train), ("validation", held_out)):
        (folder / split).mkdir(parents=True)
        write_split(folder / split, [modality(name) for name in names], tokenizers, samples, {}, split=split)
    return folder


def settings(**options):
    return resolve(
        None,
        {
            "method": "cm3",
            "steps": 12,
            "batch_tokens": 512,
            "compile": "off",
            "checkpoint_every": 4,
            "warmup_steps": 2,
            **options,
            "shape": {"depth": 1, "width": 32},
        },
    )


def weights(run):
    return load_file(list_checkpoints(run / "checkpoints")[-1] / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_the_run_is_self_contained_and_says_what_it_measured(tmp_path):
    shards = make_shards(tmp_path / "shards")
    summary = pretrain(settings(), shards, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert summary.steps == 12 and set(lines[-1]["validation"]) == {"a->b", "b->a", "b->c", "c->b", "a->c", "c->a"}
    assert (tmp_path / "run/tokenizers/a.safetensors").read_bytes() == TOKENIZER
    imputer = Imputer.open(tmp_path / "run")
    made = imputer.impute([sample("x", 1, "a")], ["a"], "b", draws=3, consistency=True)[0]
    assert len(made.tokens) == 3 and all(len(codes) == LENGTH for codes in made.tokens) and len(made.consistency) == 3


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("loretta", marks=pytest.mark.thorough),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cm3", "masked", "contrastive")),
    ],
)
def test_stopped_by_sigkill_it_continues_to_the_same_bits(tmp_path, method):
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(method=method), shards, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED_SCRIPT, str(shards), str(tmp_path / "killed"), method, str(Path(__file__).parent)]
    for _ in range(2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for_checkpoint(tmp_path / "killed", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    pretrain(settings(method=method), shards, tmp_path / "killed")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "no record is left from steps that were undone"


KILLED_SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_training import settings
from mmtool.training import trainer
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run
step = trainer.Trainer._one_step
def slow(self, window):
    step(self, window)
    time.sleep(0.3)
trainer.Trainer._one_step = slow
pretrain(settings(method=sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2]))
"""


def wait_for_checkpoint(run, process):
    """Until one more checkpoint than before stands there (or the training ended)."""
    before = list_checkpoints(run / "checkpoints")
    deadline = time.monotonic() + 300
    while list_checkpoints(run / "checkpoints") == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.15)


def test_sigterm_saves_and_the_same_command_continues(tmp_path):
    shards = make_shards(tmp_path / "shards")
    command = [sys.executable, "-c", KILLED_SCRIPT, str(shards), str(tmp_path / "run"), "cm3", str(Path(__file__).parent)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(tmp_path / "run", process)
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM and "the same command continues" in said
    pretrain(settings(), shards, tmp_path / "run")
    pretrain(settings(), shards, tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, capsys):
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(), shards, tmp_path / "whole")
    pretrain(settings(), shards, tmp_path / "run")
    newest = list_checkpoints(tmp_path / "run/checkpoints")[-1] / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    pretrain(settings(), shards, tmp_path / "run")
    assert "passing over" in capsys.readouterr().err
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_other_settings_or_data_are_refused(tmp_path):
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(), shards, tmp_path / "run")
    with pytest.raises(UsageError, match="learning_rate was 0"):
        pretrain(settings(learning_rate=1e-3), shards, tmp_path / "run")
    with pytest.raises(UsageError, match="other data"):
        pretrain(settings(), make_shards(tmp_path / "more", ("ab", "bc", "ac")), tmp_path / "run")


def test_a_run_continues_after_an_upgrade_that_brought_a_setting(tmp_path):
    shards, run = make_shards(tmp_path / "shards"), tmp_path / "run"
    pretrain(settings(), shards, run)
    record = json.loads((run / "config.json").read_text())
    del record["config"]["paired_share"]
    write_sealed(run / "config.json", record)
    assert pretrain(settings(), shards, run).steps == settings().steps
    with pytest.raises(UsageError, match="paired_share was"):
        pretrain(settings(paired_share=0.5), shards, run)


def test_a_run_is_not_continued_where_a_default_changed_meanwhile(tmp_path):
    shards, run = make_shards(tmp_path / "shards"), tmp_path / "run"
    pretrain(settings(), shards, run)
    record = json.loads((run / "config.json").read_text())
    record["method_options"]["mean_spans"] = 2.0
    write_sealed(run / "config.json", record)
    with pytest.raises(UsageError, match=r"method\.mean_spans was 2\.0, now 1\.0"):
        pretrain(settings(), shards, run)


def test_a_nan_is_never_stepped_on(tmp_path, monkeypatch):
    shards = make_shards(tmp_path / "shards")
    backward = Trainer.backward

    def poisoned(self, batch, counts):
        sums = backward(self, batch, counts)
        return sums * float("nan") if self.step == 6 else sums

    monkeypatch.setattr(Trainer, "backward", poisoned)
    with pytest.raises(DataError, match=r"step 6 .*samples: "):
        pretrain(settings(), shards, tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run/checkpoints")] == ["00000004"]


def test_a_gpu_is_asked_about_a_step_when_the_next_one_is_queued(monkeypatch):
    monkeypatch.setattr("torch.cuda.Event", lambda: SimpleNamespace(record=lambda: None, synchronize=lambda: None))
    refused, checks = [], Checks(torch.device("cuda"))
    for step, holds in enumerate([True, False, True]):
        checks.add(torch.tensor(holds), lambda step=step: refused.append(step))
        assert refused == [1] * (step == 2)
    checks.add(torch.tensor(False), lambda: refused.append(3))
    checks.settle()
    checks.settle()
    assert refused == [1, 3]


@pytest.mark.parametrize("method", ["causal", "m3ae"])
def test_activations_are_kept_or_computed_anew_with_the_same_result(tmp_path, method, monkeypatch):
    passes = []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, *inputs: passes.append(self) or forward(self, *inputs))
    shards, counts = make_shards(tmp_path / "shards"), []
    for recompute in (False, True):
        passes.clear()
        pretrain(settings(method=method, steps=4, recompute=recompute, validation_samples=0), shards, tmp_path / str(recompute))
        counts.append(len(passes))
    assert counts[1] == 2 * counts[0]
    assert same(weights(tmp_path / "False"), weights(tmp_path / "True"))


def test_settings_are_checked_by_name_type_and_range(tmp_path):
    for bad in ({"steps": 0}, {"steps": "many"}, {"precision": "fp8"}, {"colour": 1}, {"seed": -1}):
        with pytest.raises(UsageError):
            resolve(None, bad)
    file = tmp_path / "config.toml"
    file.write_text("steps = 7\n[method_options]\nwarmup = 0.5\n")
    config = resolve(file, {"steps": None, "seed": 3}, ["method.transitive_share=0.25"])
    assert (config.steps, config.seed, dict(config.method_options)) == (7, 3, {"warmup": 0.5, "transitive_share": 0.25})


LAYOUT = layout_of([modality(name) for name in "abc"])
GRAPH = CoOccurrence({frozenset("ab"): 10, frozenset("bc"): 10})


def test_cm3_without_spans_in_one_order_is_causal():
    causal = Causal(LAYOUT, GRAPH, CausalOptions())
    cm3 = CM3(LAYOUT, GRAPH, CM3Options(mean_spans=0.0, commutative=False))
    row = sample("x", 2, "ab")
    for field in ("tokens", "targets", "modality", "slot", "position"):
        assert (
            getattr(causal.document(row, np.random.default_rng(0)), field) == getattr(cm3.document(row, np.random.default_rng(1)), field)
        ).all()


def test_loretta_routes_every_never_seen_pair_along_the_shortest_path():
    method = LoReTTa(LAYOUT, GRAPH, LoReTTaOptions())
    assert taught(method, "ab") == [("a", (("b", "c"),))]
    assert taught(method, "bc") == [("c", (("b", "a"),))]
    assert taught(method, "a") == [("a", (("a", "b", "c"),))]
    assert taught(method, "b") == [("b", (("b", "a"), ("b", "c")))], "a lone linking modality is told from two that never met"
    chain = CoOccurrence({frozenset("ab"): 1, frozenset("bc"): 1, frozenset("cd"): 1})
    four = LoReTTa(layout_of([modality(name) for name in "abcd"]), chain, LoReTTaOptions())
    assert ("a", (("b", "c", "d"),)) in taught(four, "ab")


def test_pairs_that_hardly_ever_met_are_taught_as_well_where_that_is_asked_for():
    graph = CoOccurrence({frozenset("ab"): 100, frozenset("bc"): 80, frozenset("ac"): 7})
    with pytest.raises(UsageError, match="needs a linking modality"):
        LoReTTa(LAYOUT, graph, LoReTTaOptions())
    with pytest.raises(UsageError, match="needs a linking modality"):
        LoReTTa(LAYOUT, graph, LoReTTaOptions(rare=0.05))
    method = LoReTTa(LAYOUT, graph, LoReTTaOptions(rare=0.1))
    assert taught(method, "ab") == [("a", (("b", "c"),))]
    assert taught(method, "ac") == [], "real pairs stay what they are"


def taught(method, present):
    return [(route.target, route.paths) for route in method.routes(frozenset(present))]


def test_loretta_predicts_real_tokens_only_and_conditions_on_pseudo_ones():
    method = LoReTTa(LAYOUT, GRAPH, LoReTTaOptions(warmup=0.0, transitive_share=1.0, all_share=0.0, distillation=0.0))
    step = Step(0, 0.5, 1, untrained_model())
    document = method.documents([sample("x", 2, "ab")], [5], step)[0]
    assert document.modality[0] == 2 and document.modality[-1] == 0, "c is made up first, then the real a follows"
    assert set(document.modality[document.targets >= 0]) == {0}


def test_by_distillation_loretta_predicts_the_pseudo_tokens_from_real_ones():
    method = LoReTTa(LAYOUT, GRAPH, LoReTTaOptions(warmup=0.0, transitive_share=1.0, distillation=1.0))
    document = method.documents([sample("x", 2, "ab")], [5], Step(0, 0.5, 1, untrained_model()))[0]
    assert document.modality[0] == 0 and document.modality[-1] == 2, "the real a, then c as it was made up from b"
    assert set(document.modality[document.targets >= 0]) == {2}
    lone = [method.documents([sample("x", 2, "b")], [seed], Step(0, 0.5, seed, untrained_model()))[0] for seed in range(8)]
    assert all(1 in document.modality[document.targets >= 0] for document in lone), "of two pseudo modalities nothing is distilled"


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_a_share_of_the_transitive_documents_is_distilled(share):
    documents = transitive_documents(distillation=share, all_share=0.0)
    assert len(documents) == 400
    assert abs(sum(is_distilled(document) for document in documents) / 400 - share) < 0.08


def test_a_pseudo_modality_serves_in_a_document_of_each_direction():
    documents = transitive_documents(distillation=0.5, all_share=0.0)
    predicting, predicted = documents[::2], documents[1::2]
    for given, distilled in zip(predicting, predicted, strict=True):
        assert not is_distilled(given) and is_distilled(distilled)
        for name in (0, 2):
            assert given.tokens[given.modality == name].tolist() == distilled.tokens[distilled.modality == name].tolist()


def test_a_sample_in_place_of_another_has_the_route_of_its_kind():
    """Samples that teach nothing of a missing pair, and those that are told from two pseudo modalities, keep their documents."""
    method = LoReTTa(LAYOUT, GRAPH, LoReTTaOptions(warmup=0.0, transitive_share=1.0, all_share=0.0))
    held = ["abc", "ab", "b", "ab", "abc", "bc", "b"]
    samples = [sample(f"x{i}", i % CLASSES, present) for i, present in enumerate(held)]
    documents = method.documents(samples, range(len(samples)), Step(0, 0.5, 1, untrained_model()))
    predicted = ["".join("abc"[m] for m in sorted(set(document.modality[document.targets >= 0]))) for document in documents]
    assert predicted[0] == predicted[4] == "abc" and predicted[2] == predicted[6] == "b"
    assert (predicted[1], predicted[3]) == ("a", "c"), "the first of two stands for the second"


def transitive_documents(**options):
    method = LoReTTa(LAYOUT, GRAPH, LoReTTaOptions(warmup=0.0, transitive_share=1.0, **options))
    return method.documents([sample(f"x{i}", i % CLASSES, "ab") for i in range(400)], range(400), Step(0, 0.5, 1, untrained_model()))


def is_distilled(document):
    return set(document.modality[document.targets >= 0]) == {2}


def untrained_model():
    from mmtool.model.transformer import Shape, Transformer

    model = Transformer(Shape(depth=1, width=32), LAYOUT)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def test_loretta_needs_a_draw():
    with pytest.raises(UsageError, match=r"draws is 0.*whole number from 1 on"):
        options_of(LoReTTaOptions, {"draws": 0}, "--set method")


def test_loretta_without_a_missing_pair_says_so():
    full = CoOccurrence({frozenset("abc"): 10})
    with pytest.raises(UsageError, match="commutative"):
        LoReTTa(LAYOUT, full, LoReTTaOptions())


@pytest.mark.thorough
def test_without_a_compiler_it_says_so_and_runs(tmp_path):
    shards = make_shards(tmp_path / "shards")
    steps = "pretrain(settings(compile='auto', steps=2), Path(sys.argv[2]), Path(sys.argv[3]))"
    script = f"import sys; sys.path.insert(0, sys.argv[1]); from test_training import *; {steps}"
    environment = {**os.environ, "PATH": str(tmp_path), "CXX": ""}
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(shards), str(tmp_path / "run")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("without torch.compile") == 1


def test_a_run_may_see_some_modalities_or_complete_samples_only(tmp_path):
    shards = make_shards(tmp_path / "shards", ("ab", "b", "c"))
    pretrain(settings(modalities="a+b"), shards, tmp_path / "some")
    run = open_run(tmp_path / "some")
    assert run.graph.combinations == {frozenset("ab"): 160, frozenset("b"): 160}
    assert run.layout.names == ("a", "b", "c"), "the vocabulary is that of all, so that runs can be compared"
    lines = [json.loads(line) for line in (tmp_path / "some/metrics.jsonl").read_text().splitlines()]
    assert set(lines[-1]["validation"]) == {"a->b", "b->a"} and "c" not in lines[0].get("loss", {})
    pretrain(settings(least_modalities=2), shards, tmp_path / "paired")
    assert open_run(tmp_path / "paired").graph.combinations == {frozenset("ab"): 160}
    with pytest.raises(UsageError, match="no modality 'z'"):
        pretrain(settings(modalities="z"), shards, tmp_path / "wrong")
    with pytest.raises(DataError, match="no sample holds 3"):
        pretrain(settings(least_modalities=3), shards, tmp_path / "wrong")


@pytest.mark.parametrize(("pairs", "share"), [(40, 0.5), (40, 0.1), (300, 0.5), (300, 0.9)])
def test_paired_samples_make_up_the_share_that_was_asked_for(pairs, share):
    paired = np.arange(340) % 340 < pairs
    members = mixture(paired, share)
    assert paired[members].mean() == pytest.approx(share, abs=0.02)
    assert set(members) == set(range(340)), "every sample occurs"
    counts = np.bincount(members)
    assert counts[paired].max() - counts[paired].min() <= 1 and counts[~paired].max() - counts[~paired].min() <= 1
    assert (mixture(np.ones(5, bool), share) == np.arange(5)).all()


def test_repeated_samples_are_drawn_anew(tmp_path):
    tokens = open_token_set(make_shards(tmp_path / "shards", ("ab", "a")), split="train")
    paired = np.array([len(tokens.present(i)) > 1 for i in range(len(tokens))])
    seen = []

    def make(samples, seeds):
        seen.extend(zip((sample.key for sample in samples), seeds, strict=True))
        return []

    def pack(documents):
        return SimpleNamespace(num_documents=640)

    Loader(tokens, mixture(paired, 0.75), pack, 640, seed=0).next(make)
    assert len(seen) == 640 == len(set(seen)), "a sample of one epoch that occurs again has another seed"
    assert sum(key.startswith("ab") for key, _ in seen) == 480
    alone = []
    Loader(tokens, np.arange(320), pack, 320, seed=0).next(lambda samples, seeds: alone.extend(seeds) or [])
    assert alone == [sample_seed(0, 0, tokens.keys[i]) for i in np.random.default_rng([0, 0]).permutation(320)]
    with pytest.raises(UsageError, match=r"paired_share is 1\.0.*from 0 to below 1"):
        settings(paired_share=1.0)
