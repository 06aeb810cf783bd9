"""Full disks: a verb is given a system that writes no file beyond so many bytes, for the size of each file that it writes, and given again.

    python -m tests.faults.full_disk [VERB...] [--most N]        N sizes of each of these verbs (none: of all), one line each

What counts as survived: the command says what the system said, without a traceback, and ends with exit code 1; nothing that is half-written
is left, of an output that is written as a whole nothing at all; and the same command on a larger disk, without --force, leaves byte for
byte what it would have left.
"""

import errno
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults import crash
from tests.faults.crash import PARTIAL, TIMES, VERBS, Survival, contents, make_project, run, workplace

FULL = tuple(os.strerror(number).lower() for number in (errno.EFBIG, errno.ENOSPC))
LONG = ("pretrain", "finetune", "adapt", "compare")  # leave what was done, and go on with it
ALL = {
    **VERBS,
    "h5ad": (*VERBS["impute"][:-2], "--format", "h5ad", "-o", "out/tables"),
    "h5mu": (*VERBS["impute"][:-2], "--format", "h5mu", "-o", "out/tables"),
    "features": ("impute", "adapter", "shards", "--space", "embedding", "--have", "lab", "--want", "text", "-o", "out/embeddings"),
    "export": ("export", "run", "-o", "out/export"),
    "onnx": ("export", "run", "-o", "out/run.onnx"),
    "peek": ("peek", "shards", "--samples", "3", "-o", "out/look"),
}


def survive(verb: str, project: Path, most: int | None) -> Survival:
    """Of sizes at most so many, evenly spread, the largest always."""
    with workplace(project) as folder:
        code, said = run(ALL[verb], folder)
        if code:
            raise RuntimeError(f"{verb}: {said}")
        expected = contents(folder / "out")
        sizes = {(folder / "out" / name).stat().st_size // 2 for name in expected if Path(name).name not in TIMES}
    limits = sorted({0, *sizes}, reverse=True)
    stride = 1 if most is None else max(1, -(-len(limits) // most))
    result = Survival(verb, len(limits))
    for limit in limits[::stride]:
        result.tried += 1
        if problem := _fill(verb, project, limit, expected):
            result.problems.append(f"no file beyond {limit:,} bytes: {problem}")
    return result


def _fill(verb: str, project: Path, limit: int, expected: dict[str, str]) -> str | None:
    """What is wrong with a command on a full disk, or the same one on a larger disk afterwards; None: nothing."""
    with workplace(project) as folder:
        code, said = run(ALL[verb], folder, most_bytes=limit)
        if code != 1 or "Traceback" in said or not any(words in said.splitlines()[-1].lower() for words in FULL):
            return f"it ends with {code}: {said[-2000:]}"
        left = contents(folder / "out")
        half = [path for path in left if PARTIAL in path or verb not in LONG]
        if half:
            return f"left over: {', '.join(half)}"
        code, said = run(ALL[verb], folder)
        if code:
            return f"given again it ends with {code}: {said[-2000:]}"
        differing = {path for path, _ in contents(folder / "out").items() ^ expected.items()}
        return f"not as on a larger disk: {', '.join(sorted(differing))}" if differing else None


def main(arguments: Sequence[str]) -> int:
    """Prints one JSON line of each verb. Gives the number of problems."""
    most = int(arguments[arguments.index("--most") + 1]) if "--most" in arguments else None
    verbs = [verb for verb in arguments if verb in ALL] or list(ALL)
    crash.import_stages()
    if crash.needs_runs(verbs):
        crash.import_all()
    problems = 0
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), verbs)
        if "features" in verbs:
            code, said = run([*VERBS["adapt"][:-1], "adapter", "--encoder", "text=run"], project)
            assert not code, said
        for verb in verbs:
            result = survive(verb, project, most)
            problems += len(result.problems)
            print(json.dumps({"verb": verb, "tried": result.tried, "points": result.points, "problems": result.problems}), flush=True)
    return problems


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
