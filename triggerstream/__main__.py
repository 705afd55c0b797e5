"""`python -m triggerstream` is the command `triggerstream`."""

from triggerstream.cli import main

main()
