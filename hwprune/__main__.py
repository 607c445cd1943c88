"""`python -m hwprune`, and `torchrun -m hwprune`."""

from hwprune.cli import main

main()
