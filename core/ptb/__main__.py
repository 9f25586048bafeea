"""``python -m ptb`` is ``ptb``."""

from ptb.cli import main

main(prog_name="ptb")
