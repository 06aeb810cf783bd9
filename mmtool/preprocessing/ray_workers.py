"""Workers on the machines of a Ray cluster: each is a process (`worker_process.py`) below an actor, which sends on what it is sent.

So a sample that crashes, hangs or needs too much memory ends that process and not the actor, and the machine it happens on knows what it
died of. Each actor is asked for one list of messages at a time, which bounds how many wait anywhere: a worker computes the next one
meanwhile. The nodes read the files themselves.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmtool
from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.processes import can_fork
from mmtool.preprocessing.worker import Activity, Ended, Failed, Share, Start
from mmtool.preprocessing.worker_process import Batch, LostError, WorkerProcess, unpacked

MAX_WORKERS = 256
START_S = 120.0  # in which the first actor begins; it imports PyTorch, often from a network file system
LATE_S = 20.0  # further, in which those that are to be used begin
TERMINATED = 128 + signal.SIGTERM
WHERE = "--engine ray"
NEEDED = ("mmtool.preprocessing.", "mmtool.tokenizers.")  # beginnings of the names of modules that workers may use


class Cluster:
    """A Ray cluster: the one at `address`, or that Ray finds or starts where it is None. Ray is started when the first workers are asked
    for, and ended with `close` if it was not running in this process before."""

    def __init__(self, address: str | None) -> None:
        """Raises UsageError without Ray, and where this process uses it already, for an address."""
        if find_spec("ray") is None:
            fix = "Install it with `pip install 'mmtool[ray]'`, here and on all nodes, or give --workers N instead."
            raise UsageError("Ray is not installed.", where=WHERE, fix=fix)
        import ray

        self._ray: Any = ray
        self._address = address
        self._is_ours = not ray.is_initialized()
        self._hosts: list[Any] = []
        self._handler: Any = None  # of SIGTERM, before Ray and this
        self._asked_to_stop = False
        if address is not None and not self._is_ours:
            raise UsageError("Ray is running in this process already.", where="--ray-address", fix="Leave the address out.")

    def runners(self, share: Share) -> "list[_RayRunner]":
        """As many workers as began, for shares of equal size. Raises UsageError where Ray does not start, or no worker, and where a node
        cannot take part."""
        if not self._hosts:
            self._start()
        common, modules = self._ray.put(share), [name for name in sys.modules if name.startswith(NEEDED)]
        return [_RayRunner(self, (common, modules, number, len(self._hosts))) for number in range(len(self._hosts))]

    def host(self, number: int) -> Any:
        """The actor below which a worker runs."""
        return self._hosts[number]

    def replace_host(self, number: int) -> None:
        """Have another actor in the place of one that died, wherever a node is left."""
        self._ray.kill(self._hosts[number])
        self._hosts[number] = self._new_host(num_cpus=0)

    def get(self, reference: Any) -> Any:
        """What an actor gave. Raises LostError where the actor died, and what it raised."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            raise LostError(Activity.NOTHING, 0, f"ended with its Ray worker ({_in_one_line(error)})") from None

    def close(self) -> None:
        """End the workers, and Ray if it is ours."""
        if not self._ray.is_initialized():
            return
        for host in self._hosts:
            self._ray.kill(host)
        self._hosts = []
        if self._is_ours:
            self._ray.shutdown()
            _handle_sigterm(self._handler)
        if self._asked_to_stop:  # by a signal that Ray has turned into an exit code of its own
            raise SystemExit(TERMINATED)

    def _stop(self, *_: Any) -> None:
        self._asked_to_stop = True
        raise SystemExit(TERMINATED)

    def _start(self) -> None:
        if self._is_ours:
            self._handler = signal.getsignal(signal.SIGTERM)
            how = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}  # standard output may be the tokens'
            try:
                self._ray.init(self._address, **how)
            except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
                fix = "Check --ray-address and RAY_ADDRESS: `ray status` says whether a cluster runs there."
                raise UsageError(f"Ray cannot be reached or started ({_in_one_line(error)}).", where=WHERE, fix=fix) from error
            _handle_sigterm(self._stop)  # Ray has set a handler of its own
        wanted = min(int(self._ray.cluster_resources().get("CPU", 0)), MAX_WORKERS)
        hosts = [self._new_host(num_cpus=1) for _ in range(wanted)]
        nodes = self._nodes(hosts)
        log(f"{len(self._hosts):,} Ray workers on {len(nodes)} node{'s' if len(nodes) > 1 else ''} read the files")

    def _new_host(self, num_cpus: int) -> Any:
        actor = self._ray.remote(num_cpus=num_cpus, max_restarts=0, max_task_retries=0)(_Host)
        return actor.remote()

    def _nodes(self, hosts: Sequence[Any]) -> set[str]:
        """Keep the actors that begin in time, and end the others; gives the names of their nodes."""
        greeted = {host.greet.remote(str(Path.cwd())): host for host in hosts}
        waiting = list(greeted)
        begun, waiting = self._ray.wait(waiting, num_returns=1, timeout=START_S) if waiting else ([], [])
        if begun and waiting:
            later, waiting = self._ray.wait(waiting, num_returns=len(waiting), timeout=LATE_S)
            begun += later
        for reference in waiting:
            self._ray.kill(greeted[reference])
        self._hosts = [greeted[reference] for reference in begun]
        if not begun:
            fix = "Wait until others have ended, or give --workers N instead."
            raise UsageError(f"Ray started no worker within {START_S:.0f} s: no CPU of the cluster is free.", where=WHERE, fix=fix)
        try:
            return {_checked(*self._ray.get(reference)) for reference in begun}
        except self._ray.exceptions.RayError as error:
            fix = "Install mmtool in the same version on all nodes."
            raise UsageError(f"a Ray worker did not begin ({_in_one_line(error)}).", where=WHERE, fix=fix) from error


class _RayRunner:
    """A `Runner` below an actor of a cluster. work: the first arguments of `_Host.start`, of which a reference stands for the share."""

    def __init__(self, cluster: Cluster, work: tuple[Any, list[str], int, int]) -> None:
        self._cluster, self._work = cluster, work
        self._number = work[2]
        self._pending: Any = None

    def start(self, start: Start) -> None:
        """Start the process, in the place of an earlier one, and ask for its first messages."""
        self._pending = self._cluster.host(self._number).start.remote(*self._work, start)

    def receive(self) -> Batch:
        """Wait for further messages, and ask for those behind them. Raises LostError where none will come."""
        try:
            sent = self._cluster.get(self._pending)
        except LostError:
            self._cluster.replace_host(self._number)
            raise
        if isinstance(sent, LostError):
            raise sent
        batch = unpacked(sent)
        if not isinstance(batch[-1][1], Ended | Failed):
            self._pending = self._cluster.host(self._number).receive.remote()
        return batch

    def end(self) -> None:
        """Have the actor end the process."""
        self._cluster.host(self._number).end.remote()


class _Host:
    """An actor: one worker process on a node, and another after that."""

    def __init__(self) -> None:
        self._process: WorkerProcess | None = None

    def greet(self, folder: str) -> tuple[str, str, str]:
        """Go to the folder in which paths begin; gives the node's name, the version of mmtool, and what is wrong there."""
        try:
            os.chdir(folder)
        except OSError as error:
            return socket.gethostname(), mmtool.__version__, f"{folder}: {error.strerror}"
        return socket.gethostname(), mmtool.__version__, "" if can_fork() else "this system cannot start processes that fork"

    def start(self, share: Share, modules: Sequence[str], number: int, count: int, start: Start) -> bytes | LostError:
        """Start the process in the place of an earlier one; gives what `receive` does. modules: imported before, as they are where workers
        are forked from the command, so that no sample's time goes on that."""
        self.end()
        for name in modules:
            import_module(name)
        self._process = WorkerProcess(replace(share, number=number, count=count))
        self._process.start(start)
        return self.receive()

    def receive(self) -> bytes | LostError:
        """The next messages as they were sent, or why none will come."""
        assert self._process is not None
        try:
            return self._process.receive_bytes()
        except LostError as lost:
            return lost

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()


def _checked(node: str, version: str, problem: str) -> str:
    """The name of a node. Raises UsageError where it cannot take part."""
    if problem:
        fix = "All nodes must read the files at the same paths: run the command in a folder of a file system that they share."
        raise UsageError(f"the node {node} cannot read what this machine does ({problem}).", where=WHERE, fix=fix)
    if version != mmtool.__version__:
        what = f"the node {node} has mmtool {version}, this machine {mmtool.__version__}."
        raise UsageError(what, where=WHERE, fix="Install the same version on all nodes.")
    return node


def _handle_sigterm(handler: Any) -> None:
    """In the main thread, where it arrives."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
