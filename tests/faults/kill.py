"""Random kills: a training is killed again and again, at random times, until it has ended, and compared with one that was not.

    python -m tests.faults.kill [--signal KILL|TERM] [--kills 50] [--seconds 480] [--seed 0]        prints one JSON line

What counts as survived: the same command, without --force, goes on after every kill and ends well; its weights are byte for byte those of
the undisturbed training, as is every other file but for times of day; and no file of a dead process is left. By TERM it ends within
`PATIENCE_S`.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults import crash
from tests.faults.crash import PARTIAL, SMALL, contents, fork, make_project, workplace

STEPS = 12
COMMAND = ("pretrain", "shards", "-o", "out/run", *SMALL, "--steps", str(STEPS), "--set", "checkpoint_every=1", "--set", "keep=2")
MOST_KILLS_OF_A_TRAINING = 8  # then it may end
PATIENCE_S = 10.0


@dataclass
class Kills:
    """kills: that hit; trainings: that ended well in spite of them; longest_s: from a signal to the end of the process; problems: in words,
    after which kills what went wrong."""

    kills: int = 0
    trainings: int = 0
    longest_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def survive(project: Path, most: int, seconds: float, seed: int, number: int = signal.SIGKILL) -> Kills:
    """Kill trainings at most so often, and begin none after so many seconds."""
    result, chance, begun = Kills(), random.Random(seed), time.monotonic()
    with workplace(project) as folder:
        begun = time.monotonic()
        code, said = _train(folder)
        took_s = time.monotonic() - begun
        if code:
            raise RuntimeError(said)
        expected = contents(folder / "out")
    while result.kills < most and time.monotonic() - begun < seconds:
        with workplace(project) as folder:
            problem = _kill_until_done(folder, chance, took_s, result, most, number)
            if problem is None and (differing := {path for path, _ in contents(folder / "out").items() ^ expected.items()}):
                problem = f"not as without the kills: {', '.join(sorted(differing))}"
        if problem:
            result.problems.append(f"after {result.kills} kills: {problem}")
        result.trainings += problem is None
        print(f"{result.kills} kills, {result.trainings} trainings as without them", file=sys.stderr, flush=True)
    return result


def _kill_until_done(folder: Path, chance: random.Random, took_s: float, result: Kills, most: int, number: int) -> str | None:
    """Give the command until it ends, and kill it at times that are random within what a whole training takes; None: it ended well."""
    for attempt in range(MOST_KILLS_OF_A_TRAINING + 1):
        sent = list[float]()
        if attempt == MOST_KILLS_OF_A_TRAINING or result.kills >= most:
            code, said = _train(folder)
        else:
            code, said = _train(folder, number, chance.uniform(0, took_s), sent)
        took = time.monotonic() - sent[0] if sent else 0.0
        if code in (-number, 128 + number):
            result.kills, result.longest_s = result.kills + 1, round(max(result.longest_s, took), 2)
            if number == signal.SIGTERM and took > PATIENCE_S:
                return f"it took {took:.1f} s to end"
        elif code:
            return f"it ends with {code}: {said[-2000:]}"
        else:
            left = [path for path in contents(folder / "out") if PARTIAL in path]
            return f"left over: {', '.join(left)}" if left else None
    raise AssertionError("the last one is not killed")


def _train(folder: Path, number: int = 0, after_s: float = 0.0, sent: list[float] | None = None) -> tuple[int, str]:
    """How the command ended, to which a signal is sent after some seconds (0: none), at the time that is added to `sent`."""
    pid, ended = fork(COMMAND, folder)

    def kill(*_: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)
            assert sent is not None
            sent.append(time.monotonic())

    if number:
        signal.signal(signal.SIGALRM, kill)
        signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        return ended()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> int:
    """Gives the number of problems."""
    options = argparse.ArgumentParser()
    options.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seconds", type=float, default=480)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    crash.import_stages()
    crash.import_all()
    with tempfile.TemporaryDirectory() as folder:
        project, number = make_project(Path(folder), ["pretrain"]), signal.Signals[f"SIG{chosen.signal}"]
        result = survive(project, chosen.kills, chosen.seconds, chosen.seed, number)
    print(json.dumps(asdict(result)), flush=True)
    return len(result.problems)


if __name__ == "__main__":
    sys.exit(bool(main()))
