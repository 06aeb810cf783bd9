"""Crash points: a verb is killed before and in the middle of its N-th write, for every N, and given again.

    python -m tests.faults.crash [VERB...]        every point of these verbs (none: of all), one line each

A write is whatever makes something last: a flush to disk, a rename, a deletion. The process ends there as by SIGKILL, without cleaning up;
in the middle of a flush, half of the file is lost. What counts as survived: the same command, without --force, ends well; what it leaves is
byte for byte what an undisturbed command leaves, but for times of day; and no file of the dead process is left.
"""

import hashlib
import json
import os
import resource
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

KILLED, PARTIAL = 137, ".partial-"
ACTS = ("fsync", "replace", "rename", "unlink", "rmdir")
TIMES = ("metrics.jsonl", "state.json", "adapter.json")  # hold seconds, or the place of their inputs
BEFORE, MIDDLE = "before", "in the middle of"
SMALL = ("--method", "cm3", "--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=32", "--set", "batch_tokens=256")
SMALL = (*SMALL, "--set", "compile=off", "--set", "value_epochs=1")
EVALUATION = ("--label", "colour", "--task", "retrieval")
VERBS: dict[str, tuple[str, ...]] = {
    "tokenize": ("tokenize", "table", "values.csv", "--fit", "--name", "lab", "-o", "out/lab.tar"),
    "shard": ("shard", "text.tar", "lab.tar", "-o", "out/shards", "--samples-per-shard", "8"),
    "pretrain": ("pretrain", "shards", "-o", "out/run", *SMALL, "--steps", "3", "--set", "checkpoint_every=1", "--set", "keep=1"),
    "finetune": ("finetune", "run", "shards", "-o", "out/run", "--label", "colour", "--steps", "2", "--set", "checkpoint_every=1"),
    "adapt": ("adapt", "shards", "--encoder", "lab=alone", "--label", "colour", "--steps", "2", "--set", "batch=8", "-o", "out/adapter"),
    "compare": ("compare", "shards", *SMALL[2:], "--methods", "cm3", "--seeds", "0", "--steps", "2", *EVALUATION, "-o", "out/comparison"),
    "impute": ("impute", "run", "shards", "--have", "text", "--want", "lab", "--limit", "3", "-o", "out/imputed"),
    "evaluate": ("evaluate", "run", "shards", *EVALUATION, "-o", "out/report"),
}


@dataclass
class Survival:
    """Of one verb. points: writes of an undisturbed command; problems: in words, at which point what went wrong."""

    verb: str
    points: int = 0
    tried: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.verb}: {self.tried - len(self.problems)} of {self.tried} crashes survived ({self.points} points)"


def survive(verb: str, project: Path, most: int | None = None) -> Survival:
    """Kill a verb at its points, at most so many of them, evenly spread. project: what `make_project` made."""
    result = Survival(verb)
    expected, result.points = undisturbed(verb, project)
    again, _ = undisturbed(verb, project)
    if expected != again:
        result.problems.append("two undisturbed commands differ")
        return result
    points = [(number, how) for number in range(1, result.points + 1) for how in (BEFORE, MIDDLE)]
    stride = 1 if most is None else max(1, -(-len(points) // most))
    for number, how in points[::stride]:
        result.tried += 1
        if problem := _crash(verb, project, number, how, expected):
            result.problems.append(f"killed {how} write {number}: {problem}")
    return result


def make_project(folder: Path, verbs: Sequence[str]) -> Path:
    """Tables of 24 entities, token sets, shards, and runs for verbs that read such."""
    colours = ("red", "green", "blue")
    rows = [(f"case{i:02d}", colours[i % 3], i) for i in range(24)]
    (folder / "notes.csv").write_text("key,text,colour\n" + "".join(f"{key},a {c} thing on day {i},{c}\n" for key, c, i in rows))
    (folder / "values.csv").write_text("key,a,b\n" + "".join(f"{key},{i % 3 + i / 100},{i * i % 7}\n" for key, _, i in rows))
    half = ("--fractions", "0.5", "0.25", "0.25")
    commands = (
        ("tokenize", "text", "notes.csv", "--text-column", "text", "--label", "colour", "--fit", "-o", "text.tar", *half),
        ("tokenize", "table", "values.csv", "--fit", "--name", "lab", "-o", "lab.tar", *half),
        ("shard", "text.tar", "lab.tar", "-o", "shards", *half),
        ("pretrain", "shards", "-o", "run", *SMALL, "--steps", "2"),
        ("pretrain", "shards", "-o", "alone", "--method", "masked", *SMALL[2:], "--set", "modalities=lab", "--steps", "2"),
    )
    for command in commands[: None if needs_runs(verbs) else 2]:
        code, said = run(command, folder)
        if code:
            raise RuntimeError(f"{' '.join(command)}: {said}")
    return folder


def needs_runs(verbs: Sequence[str]) -> bool:
    return not set(verbs) <= {"tokenize", "shard"}


def undisturbed(verb: str, project: Path) -> tuple[dict[str, str], int]:
    with workplace(project) as folder:
        code, said = run(VERBS[verb], folder, count=True)
        if code:
            raise RuntimeError(f"{verb}: {said}")
        points = int((folder / "points").read_text())
        return contents(folder / "out"), points


def _crash(verb: str, project: Path, number: int, how: str, expected: dict[str, str]) -> str | None:
    """What is wrong after a kill at a point and the same command again; None: nothing."""
    with workplace(project) as folder:
        code, said = run(VERBS[verb], folder, (number, how))
        if code != KILLED:
            return f"it was not killed (exit {code}: {said})"
        whole = {path: digest for path, digest in contents(folder / "out").items() if PARTIAL not in path} == expected
        code, said = run(VERBS[verb], folder)
        if code and not (whole and code == 2 and "exists already" in said):
            return f"given again it ends with {code}: {said}"
        left = [path for path in contents(folder / "out") if PARTIAL in path]
        if left:
            return f"left over: {', '.join(left)}"
        differing = {path for path, _ in contents(folder / "out").items() ^ expected.items()}
        return f"not as without the kill: {', '.join(sorted(differing))}" if differing else None


@contextmanager
def workplace(project: Path) -> Iterator[Path]:
    """A folder with links to what the project holds, so that outputs have the same inputs at the same paths."""
    with tempfile.TemporaryDirectory() as folder:
        for source in project.iterdir():
            (Path(folder) / source.name).symlink_to(source)
        yield Path(folder)


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files below a folder, hidden ones too; of those that hold times, that they are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = ["times" if file.name in TIMES else hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return {str(file.relative_to(folder)): digest for file, digest in zip(files, digests, strict=True)}


def run(
    command: Sequence[str], folder: Path, die: tuple[int, str] | None = None, count: bool = False, most_bytes: int | None = None
) -> tuple[int, str]:
    """Exit code and output of a command; see `fork`."""
    return fork(command, folder, die, count, most_bytes)[1]()


def fork(
    command: Sequence[str], folder: Path, die: tuple[int, str] | None = None, count: bool = False, most_bytes: int | None = None
) -> tuple[int, Callable[[], tuple[int, str]]]:
    """Begin a command in a process of its own, forked so that nothing is imported again; gives its number, and what waits for its exit code
    and output. most_bytes: of a file, beyond which the system refuses to write."""
    said, saying = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(_child(command, folder, saying, die, count, most_bytes))
        finally:
            os._exit(99)
    os.close(saying)

    def ended() -> tuple[int, str]:
        with open(said, errors="replace") as output:
            text = output.read()
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), text

    return pid, ended


def _child(command: Sequence[str], folder: Path, saying: int, die: tuple[int, str] | None, count: bool, most_bytes: int | None) -> int:
    os.chdir(folder)
    os.dup2(saying, 1)
    os.dup2(saying, 2)
    os.close(saying)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
    sys.argv = ["mmtool", *command]
    points = _watch(die)
    from mmtool.cli.main import main

    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        traceback.print_exc()
        code = 98
    if count:
        (folder / "points").write_text(str(points()))
    return code


def _watch(die: tuple[int, str] | None) -> Callable[[], int]:
    """Count the writes of this process, and end it at one of them; gives what was counted."""
    done = 0

    def watched(act: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **options: object) -> object:
            nonlocal done
            done += 1
            if die and die[0] == done:
                if die[1] == MIDDLE and act.__name__ == "fsync":
                    _halve(int(str(arguments[0])))
                os._exit(KILLED)
            return act(*arguments, **options)

        return wrapped

    for name in ACTS:
        setattr(os, name, watched(getattr(os, name)))
    return lambda: done


def _halve(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        os.truncate(f"/proc/self/fd/{descriptor}", status.st_size // 2)


def import_stages() -> None:
    """Import what preparing data uses, once for all processes that are forked."""
    import sentencepiece  # noqa: F401

    import mmtool.cli.main
    import mmtool.preprocessing.readers.tables
    import mmtool.preprocessing.readers.text
    import mmtool.preprocessing.shard
    import mmtool.preprocessing.tokenize
    import mmtool.tokenizers.table
    import mmtool.tokenizers.text  # noqa: F401


def import_all() -> None:
    """The same for the verbs that train and evaluate; figures are not rendered, which takes seconds."""
    from mmtool.adaptation import train  # noqa: F401
    from mmtool.comparison import grid  # noqa: F401
    from mmtool.evaluation.figures import curves, plots
    from mmtool.training import finetune  # noqa: F401

    def save(figure: object, stem: Path) -> None:
        for suffix in ("png", "svg"):
            stem.with_suffix(f".{suffix}").write_bytes(b"not rendered")

    for module in (plots, curves):
        module.save = save  # type: ignore[attr-defined]


def main(arguments: Sequence[str]) -> int:
    """Arguments: verbs, and `--most N` points of each; prints one JSON line of each verb. Gives the number of problems."""
    most = int(arguments[arguments.index("--most") + 1]) if "--most" in arguments else None
    verbs = [verb for verb in arguments if verb in VERBS] or list(VERBS)
    import_stages()
    if needs_runs(verbs):
        import_all()
    problems = 0
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), verbs)
        for verb in verbs:
            result = survive(verb, project, most)
            problems += len(result.problems)
            print(json.dumps({"verb": verb, "tried": result.tried, "points": result.points, "problems": result.problems}), flush=True)
            print(result, file=sys.stderr, flush=True)
    return problems


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
