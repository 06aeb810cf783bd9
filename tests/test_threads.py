"""Threads: as many as the process may use, and no spinning beside others, decided before torch is there; what the user set stays."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmtool.common.threads import POLICIES, cpu_quota, set_thread_defaults

DECIDED = (*POLICIES, "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def make_groups(folder: Path, membership: str, files: Mapping[str, str]) -> tuple[Path, Path]:
    """A tree of control groups, and the file that says which of them the process is in."""
    cgroups = folder / "cgroup"
    cgroups.mkdir()
    for name, text in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(text + "\n")
    (folder / "membership").write_text(membership + "\n")
    return cgroups, folder / "membership"


V1_LINES = "12:memory:/other\n4:cpu,cpuacct:/job/step"
TREES = {
    "no groups": ("", {}, None),
    "unlimited": ("0::/job", {"job/cpu.max": "max 100000"}, None),
    "of its group": ("0::/job", {"job/cpu.max": "250000 100000"}, 2.5),
    "of a group above it": ("0::/pod/box", {"pod/cpu.max": "150000 100000", "pod/box/cpu.max": "max 100000"}, 1.5),
    "the least of all": ("0::/pod/box", {"pod/cpu.max": "300000 100000", "pod/box/cpu.max": "200000 100000"}, 2),
    "of the root of a container": ("0::/", {"cpu.max": "50000 100000"}, 0.5),
    "the host's path inside a container": ("0::/docker/f00", {"cpu.max": "400000 100000"}, 4),
    "a path outside of the container": ("0::/../sibling", {"cpu.max": "400000 100000"}, 4),
    "not of a neighbour": ("0::/job", {"other/cpu.max": "100000 100000", "job/cpu.max": "max 100000"}, None),
    "version 1": (V1_LINES, {f"cpu,cpuacct/job/cpu.cfs_{name}_us": us for name, us in (("quota", "300000"), ("period", "100000"))}, 3),
    "version 1, above it": (V1_LINES, {"cpu/job/cpu.cfs_quota_us": "50000", "cpu/job/cpu.cfs_period_us": "20000"}, 2.5),
    "version 1, unlimited": (V1_LINES, {"cpu/job/step/cpu.cfs_quota_us": "-1", "cpu/job/step/cpu.cfs_period_us": "100000"}, None),
    "unreadable": ("0::/job", {"job/cpu.max": "what?"}, None),
}


@pytest.mark.parametrize(("membership", "files", "quota"), TREES.values(), ids=TREES)
def test_the_quota_is_the_least_of_the_groups_the_process_is_in(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(*make_groups(tmp_path, membership, files)) == quota


def test_without_proc_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path, tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("quota", "num_cpus", "environ", "threads"),
    [
        (250_000, 8, {}, "2"),
        (250_000, 2, {}, None),  # the affinity mask is the stricter one, and OpenMP knows it
        (50_000, 8, {}, "1"),
        (50_000, 1, {}, "1"),
        (250_000, 8, {"OMP_NUM_THREADS": "5"}, "5"),
    ],
)
def test_a_quota_below_the_affinity_mask_limits_the_threads(
    tmp_path: Path, quota: int, num_cpus: int, environ: dict[str, str], threads: str | None
) -> None:
    groups = make_groups(tmp_path, "0::/job", {"job/cpu.max": f"{quota} 100000"})
    set_thread_defaults(environ, num_cpus, *groups)
    assert environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize("policy", [*({name: "1"} for name in POLICIES), {}], ids=lambda policy: next(iter(policy), "none"))
def test_threads_spin_briefly_unless_the_user_says_how_they_wait(tmp_path: Path, policy: dict[str, str]) -> None:
    environ = dict(policy)
    set_thread_defaults(environ, 1, tmp_path, tmp_path / "absent")
    assert environ == (policy or {"GOMP_SPINCOUNT": "3000"})


def fresh(code: str, prefix: tuple[str, ...] = (), **environ: str) -> dict[str, object]:
    """What a new Python process prints as JSON."""
    kept = {name: value for name, value in os.environ.items() if name not in DECIDED}
    done = subprocess.run([*prefix, sys.executable, "-c", code], env={**kept, **environ}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


TELL = "; print(json.dumps({'threads': torch.get_num_threads(), 'spin': os.environ.get('GOMP_SPINCOUNT')}))"


def test_the_environment_is_set_before_torch_is_there() -> None:
    code = "import mmtool, sys, os, json; print(json.dumps({'torch': 'torch' in sys.modules, 'spin': os.environ['GOMP_SPINCOUNT']}))"
    assert fresh(code) == {"torch": False, "spin": "3000"}


@pytest.mark.thorough
def test_torch_takes_the_threads_of_the_affinity_mask_or_of_the_user() -> None:
    one = str(min(os.sched_getaffinity(0)))
    assert fresh("import mmtool, torch, os, json" + TELL, ("taskset", "-c", one)) == {"threads": 1, "spin": "3000"}
    asked = fresh("import mmtool, torch, os, json" + TELL, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    assert asked == {"threads": 1, "spin": None}


@pytest.mark.slow
@pytest.mark.thorough
def test_torch_that_was_imported_before_goes_on_as_it_is() -> None:
    threads = fresh("import torch, os, json" + TELL)["threads"]
    assert fresh("import torch, mmtool, os, json" + TELL) == {"threads": threads, "spin": "3000"}


@pytest.mark.thorough
def test_spawned_workers_inherit_what_was_decided(tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        "import json, multiprocessing, os\nfrom pathlib import Path\nfrom mmtool.common.threads import set_thread_defaults\n"
        "def tell():\n    import torch\n    print(json.dumps({'threads': torch.get_num_threads(), 'spin': os.environ['GOMP_SPINCOUNT']}))\n"
        "if __name__ == '__main__':\n"
        "    set_thread_defaults(os.environ, 64, *map(Path, os.environ['GROUPS'].split('|')))\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=tell)\n    worker.start()\n    worker.join()\n"
    )
    groups = make_groups(tmp_path, "0::/job", {"job/cpu.max": "170000 100000"})
    kept = {name: value for name, value in os.environ.items() if name not in DECIDED}
    environ = {**kept, "GROUPS": "|".join(map(str, groups)), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"threads": 1, "spin": "3000"}
