"""`python -m lightune`: the same as the command `lightune`."""

import sys

from lightune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
