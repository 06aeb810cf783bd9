"""`tokenize` and `shard` of much data: peak memory, rates by the number of workers, and whether all of them write the same bytes.

    python examples/benchmarks/tokenize_scale.py [--folder DIR] [--images 100000] [--side 28] [--rows 50000] [--columns 2000]
        [--workers 0,1,2] [--repeats 1] [--json FILE]

Made up are grey pictures of so many pixels on a side, a PNG file each, and a CSV table of numbers; with --folder they are kept, and taken
again. The image codec and the bins of the table are fitted once (the codec for 30 steps: its rate does not depend on them), then the same
data is tokenized with the fitted ones by each number of workers. Memory is that of all processes together (the proportional set size, which
counts what they share once, looked at every quarter of a second), and of the largest alone. The rate of the codec is that at which it
encodes the pictures from memory, in batches, on one core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmtool.common.storage import sha256_file
from mmtool.preprocessing.encode import BATCH
from mmtool.tokenizers.base import load_tokenizer

PER_FOLDER, LOOK_EVERY_S = 1000, 0.25
WRITTEN_ROWS = 500  # of the table at once
GIB = 1 << 30


def make_images(folder: Path, count: int, side: int) -> Path:
    """Blobs of some sizes, at some places, with noise."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side]
    for number in range(0 if folder.exists() else count):
        place = folder / f"{number // PER_FOLDER:04d}"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True)
        centre, width = random.uniform(side / 5, side * 4 / 5, 2), random.uniform(side / 14, side / 5)
        blob = 220 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / width**2) + random.integers(0, 20, (side, side))
        Image.fromarray(blob.astype(np.uint8)).save(place / f"{number:07d}.png", compress_level=1)
    return folder


def make_table(path: Path, rows: int, columns: int) -> Path:
    """Numbers that hang together, with three decimals."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(16, columns))
    if path.exists():
        return path
    with open(path, "w") as file:
        file.write(f"sample,{','.join(f'f{column}' for column in range(columns))}\n")
        for start in range(0, rows, WRITTEN_ROWS):
            values = random.normal(size=(WRITTEN_ROWS, 16)) @ mixing + random.normal(size=(WRITTEN_ROWS, columns))
            cells = np.char.mod("%.3f", values)
            file.writelines(f"s{start + number:06d},{','.join(row)}\n" for number, row in enumerate(cells[: rows - start]))
    return path


def run(*arguments: object) -> dict[str, Any]:
    """A command of mmtool: seconds, memory in bytes of all processes and of the largest, and what it said as JSON."""
    command = [sys.executable, "-m", "mmtool", *map(str, arguments), "--json", "--force"]
    started, together = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output) as process:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            together = max(together, sum(map(shared_out, family(process.pid))))
            time.sleep(LOOK_EVERY_S)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
        output.seek(0)
        said = json.loads(output.read())
    seconds, largest = time.monotonic() - started, ended[2].ru_maxrss << 10
    return {"seconds": round(seconds, 1), "memory_bytes": max(together, 0), "largest_bytes": largest, "summary": said}


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def shared_out(pid: int) -> int:
    """Bytes of a process in memory, what it shares with others divided between them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def codec_rate(fitted: Path, pictures: Path, count: int = 4096) -> float:
    """Pictures per second that the codec alone encodes."""
    tokenizer = load_tokenizer(fitted)
    values = [np.asarray(Image.open(path))[..., None] for path in sorted(pictures.glob("*/*.png"))[:count]]
    batches = [values[start : start + BATCH] for start in range(0, len(values), BATCH)]
    tokenizer.encode(batches[0])
    started = time.monotonic()
    for batch in batches:
        tokenizer.encode(batch)
    return len(values) / (time.monotonic() - started)


def measure(kind: str, data: Path, folder: Path, workers: list[int], repeats: int, *settings: object) -> dict[str, Any]:
    """Fit on some data, then tokenize it by each number of workers."""
    fitted, output = folder / f"{kind}.safetensors", folder / f"{kind}.tar"
    fit = run("tokenize", kind, data, "--fit", *settings, "--save-tokenizer", fitted, "-o", output)
    report(f"{kind}, fitted and tokenized", fit)
    runs: dict[int, list[dict[str, Any]]] = {number: [] for number in workers}
    digests = set()
    for _ in range(repeats):
        for number in workers:
            runs[number].append(run("tokenize", kind, data, "--tokenizer", fitted, "--workers", number, "-o", output))
            digests.add(sha256_file(output))
            report(f"{kind}, {number} workers", runs[number][-1])
    print(f"{kind}: {'the same bytes' if len(digests) == 1 else 'DIFFERENT BYTES'}")
    return {"fit": fit, "runs": runs, "same_bytes": len(digests) == 1}


def report(title: str, done: dict[str, Any]) -> None:
    samples = done["summary"]["samples"]
    count = samples if isinstance(samples, int) else sum(samples.values())
    rate = f"{count / done['seconds']:,.0f} samples/s"
    memory = f"{done['memory_bytes'] / GIB:.2f} GiB, the largest process {done['largest_bytes'] / GIB:.2f} GiB"
    print(f"{title}: {done['seconds']:,.1f} s, {rate}, {memory}; load {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--columns", type=int, default=2_000)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    workers = [int(number) for number in arguments.workers.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        folder, results = arguments.folder or Path(scratch), {}
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.images:
            pictures = make_images(folder / f"pictures{arguments.images}x{arguments.side}", arguments.images, arguments.side)
            results["image"] = measure("image", pictures, folder, workers, arguments.repeats, "--size", arguments.side, "--set", "steps=30")
            rate = codec_rate(folder / "image.safetensors", pictures)
            medians = {n: statistics.median(done["seconds"] for done in runs) for n, runs in results["image"]["runs"].items()}
            shares = ", ".join(f"{arguments.images / seconds / rate:.0%} by {n} workers" for n, seconds in medians.items())
            print(f"the codec alone: {rate:,.0f} pictures/s; of that {shares}")
            results["codec_rate"] = rate
            results["shard"] = run("shard", folder / "image.tar", "-o", folder / "shards")
            report("shard", results["shard"])
        if arguments.rows:
            table = make_table(folder / f"table{arguments.rows}x{arguments.columns}.csv", arguments.rows, arguments.columns)
            results["table"] = measure("table", table, folder, workers, arguments.repeats)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
