"""What control groups (cgroups, as of `docker --memory`, Kubernetes and Slurm) grant this process: folders of version 1 and 2."""

from collections.abc import Iterator
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def group_folders(controller: str, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> list[Path]:
    """Folders that may limit what `controller` controls: of the groups of this process, and of those above them.

    cgroups: where they are mounted; membership: which are those of this process.
    """
    try:
        lines = membership.read_text().splitlines()
    except (OSError, ValueError):
        return []
    return [folder for line in lines for folder in _folders(line, controller, cgroups)]


def memory_left(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that a control group of this process, or one above it, still grants; None where none is limited."""
    left = (_left(folder) for folder in group_folders("memory", cgroups, membership))
    return min((number for number in left if number is not None), default=None)


def _folders(line: str, controller: str, cgroups: Path) -> Iterator[Path]:
    """The folders of the group that a line `ID:CONTROLLERS:PATH` names, and of those above it (of no controllers: version 2).

    Inside a container the path may be that of the host, which is not mounted there: what is mounted then is the container's group.
    """
    _, controllers, path = [*line.split(":", 2), "", ""][:3]
    if controllers and controller not in controllers.split(","):
        return
    parts = Path(path.lstrip("/")).parts
    if ".." in parts:  # of a group outside of the container's
        parts = ()
    for mount in {cgroups / controllers, cgroups / controller} if controllers else {cgroups}:
        yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _left(folder: Path) -> int | None:
    """Bytes below the limit of one group, cached files that can be dropped included; None where there is no limit."""
    limit_file, used_file, cached = "memory.max", "memory.current", "inactive_file"
    if not (folder / limit_file).exists():
        limit_file, used_file, cached = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    try:
        limit = (folder / limit_file).read_text().strip()
        if limit == "max":
            return None
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        dropped = next((int(number) for name, number in pairs if name == cached), 0)
        return max(0, int(limit) - int((folder / used_file).read_text()) + dropped)
    except (OSError, ValueError):
        return None
