"""The two ways a command can fail by the user's hand, and how each is worded.

Every message says what is wrong, where (file, sample, field or option) and what to do next.
"""

from typing import Any

from mmtool.common.urls import as_given


class MmtoolError(ValueError):
    """A mistake the user can mend; the command line prints it as one paragraph and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        """`what` is wrong, `where` it is (a path, key or option), `fix`: what to do next."""
        self.what, self.where, self.fix = what, where, fix
        place = f"{where}: " if where is not None else ""
        advice = f" {fix}" if fix else ""
        super().__init__(as_given(f"{place}{what}{advice}"))

    def __reduce__(self) -> Any:
        """On its way from another process, whatever a subclass is made of."""
        return _received, (type(self), self.args, vars(self))


class DataError(MmtoolError):
    """The input is damaged, empty or does not fit (exit code 1)."""

    exit_code = 1


class UsageError(MmtoolError):
    """The command was asked for something that makes no sense (exit code 2)."""

    exit_code = 2


def _received(cls: type[MmtoolError], args: tuple[Any, ...], fields: dict[str, Any]) -> MmtoolError:
    error = cls.__new__(cls, *args)
    vars(error).update(fields)
    return error
