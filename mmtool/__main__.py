"""`python -m mmtool` is `mmtool`."""

from mmtool.cli.main import main

main()
