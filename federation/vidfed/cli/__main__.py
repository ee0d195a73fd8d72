"""`python -m vidfed.cli`: the command, where no script is on the path."""

from vidfed.cli.root import main

main()
