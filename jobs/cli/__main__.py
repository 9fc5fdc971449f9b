"""`python -m extremal.jobs.cli`."""

from extremal.jobs.cli.app import main

main()
