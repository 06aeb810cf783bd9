"""Training and decoding beside peers on this machine: Hugging Face GPT-2 and x-transformers, of equal depth, width and parameters.

    pip install transformers x-transformers
    python examples/benchmarks/peers.py [--shards DIR] [--sizes 5M,25M] [--parts train,decode] [--repeats 5] [--seconds 5]
        [--batch-tokens 4096] [--drawn 64] [--json FILE]

Every contender lives in a process of its own, with the same precision (the one that mmtool picks here), compiled, with AdamW; they take
turns, so that what else the machine does meets all of them alike.

Training: mmtool packs the documents of its causal method into rows; the others take the same documents as their users do, batch by batch
padded to its longest, and to a multiple of 64 where documents differ in length: else `torch.compile` is still busy after ten minutes.
Counted are tokens of documents, not of padding; loading is included for mmtool, and batches are made ahead for the others. Decoding:
prompts of 16 tokens, 256 of them, are read and continued with a cache by so many tokens, by mmtool and GPT-2. The limit is that of the
products with weights (6 FLOPs for each of them and each token in training, 2 in decoding, attention left out) at the rate of a large matrix
product, measured behind each race. Without --shards: random codes, documents of 40 tokens, all of one length.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmtool.training.pretrain as stage
from mmtool.common.storage import sha256_bytes
from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import segment
from mmtool.data.shards import open_token_set, write_split
from mmtool.model.decode import generate
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import PRESETS, Transformer
from mmtool.training.config import PretrainConfig, resolve
from mmtool.training.hardware import matmul_limit, pick_device, pick_precision
from mmtool.training.loop import Window
from mmtool.training.run import make_method
from mmtool.training.trainer import Trainer

PRESET = {"5M": "small", "25M": "base"}
NO_TOKENIZER, MULTIPLE = b"codes at random", 64
ROWS, PROMPT = 256, 16
Step = Callable[[], int]  # gives the tokens it was about
Contender = tuple[Step, int, int]  # its number of parameters, and how many of these are only looked up


class Taken(Exception):
    """The trainer is set up."""


def mmtool_training(shards: Path, preset: str, batch_tokens: int) -> Contender:
    """A step of `mmtool pretrain`."""
    taken: list[Trainer] = []

    class Caught(Trainer):
        def train(self, *_: Any) -> None:
            taken.append(self)
            raise Taken

    stage.Trainer = Caught  # type: ignore[misc]
    settings = {"method": "causal", "preset": preset, "batch_tokens": batch_tokens, "validation_samples": 0, "compile": "on"}
    with suppress(Taken):
        stage.pretrain(resolve(None, settings), shards, Path(tempfile.mkdtemp()) / "run")
    trainer = taken[0]

    def step() -> int:
        window = Window()
        trainer._one_step(window)
        return window.tokens

    return step, trainer.model.num_parameters(), looked_up(trainer.model, "embedding")


def looked_up(model: torch.nn.Module, part: str) -> int:
    """Parameters of tables of embeddings, by a part of their names."""
    return sum(weight.numel() for name, weight in model.named_parameters() if part in name)


def documents(shards: Path) -> tuple[list[np.ndarray], int]:
    """Tokens of each document of the causal method, and the size of the vocabulary."""
    data = open_token_set(shards, split="train")
    layout = layout_of(data.modalities)
    method = make_method(PretrainConfig(method="causal"), layout, CoOccurrence.of(data.present(i) for i in range(len(data))))
    count = min(len(data), 4000)
    chosen = [data[int(i)] for i in np.random.default_rng(0).permutation(len(data))[:count]]
    made = Documents.of(method.plain_documents(chosen, list(range(count))))
    return np.split(made.tokens.astype(np.int64), made.ends[:-1]), layout.size


def padded_batches(shards: Path, batch_tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """(tokens, targets with -100 where there is none, number of tokens), over and over: as many documents as the tokens of a step."""
    made, _ = documents(shards)
    rows = max(1, round(batch_tokens / np.mean([len(document) for document in made])))
    batches = []
    for start in range(0, len(made) - rows + 1, rows):
        chosen = made[start : start + rows]
        length = padded(max(map(len, chosen)), made)
        tokens, targets = np.zeros((rows, length), np.int64), np.full((rows, length), -100)
        for row, document in enumerate(chosen):
            tokens[row, : len(document)] = targets[row, : len(document)] = document
        batches.append((torch.from_numpy(tokens), torch.from_numpy(targets), sum(map(len, chosen))))
    while True:
        yield from batches


def padded(length: int, made: list[np.ndarray]) -> int:
    """The length of rows for documents of at most so many tokens."""
    return length if len(set(map(len, made))) == 1 else -(-length // MULTIPLE) * MULTIPLE


def gpt2(preset: str, vocabulary: int, length: int) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = PRESETS[preset]
    settings = {"n_layer": shape.depth, "n_embd": shape.width, "n_head": shape.heads, "n_positions": length}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **settings, **dropout, **tokens))


def x_transformers(preset: str, vocabulary: int, length: int) -> torch.nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    shape = PRESETS[preset]
    layers = Decoder(
        dim=shape.width, depth=shape.depth, heads=shape.heads, attn_dim_head=shape.head_width, rotary_pos_emb=True, attn_flash=True
    )
    return TransformerWrapper(num_tokens=vocabulary, max_seq_len=length, attn_layers=layers)


def peer_training(name: str, shards: Path, preset: str, batch_tokens: int, dtype: torch.dtype) -> Contender:
    made, vocabulary = documents(shards)
    model = (gpt2 if name == "gpt2" else x_transformers)(preset, vocabulary, padded(max(map(len, made)), made))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batches = padded_batches(shards, batch_tokens)

    def loss_of(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if name == "gpt2":
            return model(input_ids=tokens, attention_mask=(targets >= 0).long(), labels=targets).loss
        logits = model(tokens[:, :-1], mask=targets[:, :-1] >= 0)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten())

    compiled = torch.compile(loss_of, dynamic=False)

    def step() -> int:
        tokens, targets, count = next(batches)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = compiled(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return count

    tables = "wpe" if name == "gpt2" else "emb."  # GPT-2's head is its table of tokens
    return step, sum(weight.numel() for weight in model.parameters()), looked_up(model, tables)


def mmtool_decoding(preset: str, drawn: int, dtype: torch.dtype) -> Contender:
    layout = layout_of([modality("a", 512, PROMPT - 1), modality("b", 512, drawn)])
    model = Transformer(PRESETS[preset], layout)
    model.init_weights(torch.Generator().manual_seed(0))
    model.compute_dtype = dtype
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    prompts = [segment(layout, 0, random.integers(512, size=PROMPT - 1)) for _ in range(ROWS)]

    def step() -> int:
        generate(model, prompts, 1, sampling=Sampling(), generator=generator)
        return ROWS * drawn

    return step, model.num_parameters(), looked_up(model, "embedding")


def gpt2_decoding(preset: str, drawn: int, dtype: torch.dtype) -> Contender:
    model = gpt2(preset, 1026, PROMPT + drawn).to(dtype).eval()
    prompts = torch.randint(1, 1026, (ROWS, PROMPT))
    settings = {"do_sample": True, "top_k": 0, "min_new_tokens": drawn, "max_new_tokens": drawn, "use_cache": True}

    def step() -> int:
        with torch.no_grad():
            made = model.generate(prompts, attention_mask=torch.ones_like(prompts), **settings)
        return ROWS * (made.shape[1] - PROMPT)

    return step, sum(weight.numel() for weight in model.parameters()), looked_up(model, "wpe")


def modality(name: str, codes: int, length: int) -> Modality:
    return Modality(name, "text", codes, (length,), "line", sha256_bytes(NO_TOKENIZER), length)


def equal_shards(folder: Path) -> Path:
    """Pairs of 16 and of 22 codes at random: documents of one length."""
    random, lengths = np.random.default_rng(0), {"a": 16, "b": 22}
    samples = [Sample(f"{i:05d}", {n: random.integers(512, size=k).astype(np.uint16) for n, k in lengths.items()}) for i in range(4000)]
    (folder / "train").mkdir(parents=True)
    modalities = [modality(name, 512, length) for name, length in lengths.items()]
    write_split(folder / "train", modalities, dict.fromkeys(lengths, NO_TOKENIZER), samples, split="train")
    return folder


def serve(arguments: argparse.Namespace) -> None:
    """Be one contender: for each line of standard input, go on for so many seconds, and say how fast."""
    dtype, preset = pick_precision("auto", pick_device()), PRESET[arguments.size]
    torch.manual_seed(0)
    if arguments.part == "train" and arguments.serve == "mmtool":
        step, parameters, tables = mmtool_training(arguments.shards, preset, arguments.batch_tokens)
    elif arguments.part == "train":
        step, parameters, tables = peer_training(arguments.serve, arguments.shards, preset, arguments.batch_tokens, dtype)
    elif arguments.serve == "mmtool":
        step, parameters, tables = mmtool_decoding(preset, arguments.drawn, dtype)
    else:
        step, parameters, tables = gpt2_decoding(preset, arguments.drawn, dtype)
    for line in sys.stdin:
        tokens, started = 0, time.perf_counter()
        while not tokens or time.perf_counter() - started < float(line):
            tokens += step()
        rate = tokens / (time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        answer = {"tokens_per_s": rate, "parameters": parameters, "looked_up": tables, "peak_bytes": peak}
        print(json.dumps(answer), file=ANSWERS, flush=True)


def race(part: str, size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every contender in turn, again and again."""
    names = ["mmtool", "gpt2", *(["x-transformers"] if part == "train" else [])]
    command = [sys.executable, __file__, "--part", part, "--size", size, "--shards", str(arguments.shards), "--drawn", str(arguments.drawn)]
    command += ["--batch-tokens", str(arguments.batch_tokens), "--serve"]
    started = {name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in names}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for round_ in range(arguments.repeats + 1):  # the first compiles
        for name, process in started.items():
            assert process.stdin is not None and process.stdout is not None
            print(arguments.warm_up if round_ == 0 else arguments.seconds, file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            if round_:
                answers[name].append(answer)
    for process in started.values():
        process.communicate()
    flops = 6 if part == "train" else 2
    limit = matmul_limit(pick_device(), pick_precision("auto", pick_device()))
    results = {}
    for name, given in answers.items():
        rates, last = [answer["tokens_per_s"] for answer in given], given[-1]
        share = statistics.median(rates) * flops * (last["parameters"] - last["looked_up"]) / limit
        results[name] = {**last, "tokens_per_s": rates, "share": share}
    show(f"{part} {size}", results)
    return results


def show(title: str, results: dict[str, Any]) -> None:
    best = statistics.median(results["mmtool"]["tokens_per_s"])
    print(f"{title}; load {os.getloadavg()[0]:.1f}")
    for name, row in results.items():
        middle, least, most = statistics.median(row["tokens_per_s"]), min(row["tokens_per_s"]), max(row["tokens_per_s"])
        size = f"{row['parameters'] / 1e6:.1f} M parameters, peak {row['peak_bytes'] / 2**20:,.0f} MiB"
        print(f"  {name:>15} {middle:>9,.0f} tokens/s ({least:,.0f} to {most:,.0f}), {row['share']:.0%} of the limit, {size}", end="")
        print("" if name == "mmtool" else f"; mmtool {best / middle:.2f} times as fast", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--sizes", default="5M,25M")
    parser.add_argument("--parts", default="train,decode")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=15)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--drawn", type=int, default=64)
    parser.add_argument("--json", type=Path)
    for name in ("--serve", "--part", "--size"):  # of a contender's own process
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.shards is None:
            arguments.shards = equal_shards(Path(scratch) / "shards")
        results = {
            f"{part} {size}": race(part, size, arguments) for part in arguments.parts.split(",") for size in arguments.sizes.split(",")
        }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


ANSWERS = os.fdopen(os.dup(1), "w")  # what compilers and libraries print goes elsewhere
if __name__ == "__main__":
    main()
