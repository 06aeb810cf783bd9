"""What a report was made by: the command, and the versions of what computes."""

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmtool import __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib")


def made_by() -> dict[str, Any]:
    """The command, None where no command line was used, and versions."""
    return {
        "command": command_line(sys.argv),
        "versions": {"mmtool": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def command_line(arguments: list[str]) -> str | None:
    """The command that started this process, if it was `mmtool`."""
    program = Path(arguments[0]) if arguments else Path()
    is_ours = program.name == "mmtool" or (program.name == "__main__.py" and program.parent.name == "mmtool")
    return shlex.join(["mmtool", *arguments[1:]]) if is_ours else None
