"""`python -m mmtool` is `mmtool`."""

from mmtool.cli.main import main

if __name__ == "__main__":
    main()
