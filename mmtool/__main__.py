"""`python -m mmtool` is `mmtool`."""

import sys

INTERRUPTED = 130


def run() -> None:
    """The command line, which Ctrl-C ends in one line even while it is still being imported."""
    try:
        from mmtool.cli.main import main

        main()
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run()
