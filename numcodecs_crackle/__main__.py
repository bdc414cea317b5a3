"""``python -m numcodecs_crackle``: the command line."""

import sys

from numcodecs_crackle.cli import main

sys.exit(main())
