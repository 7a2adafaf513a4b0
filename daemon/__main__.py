"""`python -m daemon` is `shoal`."""

from daemon.cli import main

main()
