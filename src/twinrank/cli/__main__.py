"""`python -m twinrank.cli`."""

from twinrank.cli import main

main()
