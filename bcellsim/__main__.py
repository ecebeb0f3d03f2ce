"""Run the command line as ``python -m bcellsim``."""

from bcellsim.cli import main

main()
