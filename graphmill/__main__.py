"""`python -m graphmill`: the command line."""

from graphmill.cli import main

main()
