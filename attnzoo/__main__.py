"""``python -m attnzoo``."""

from attnzoo.cli import main

main()
