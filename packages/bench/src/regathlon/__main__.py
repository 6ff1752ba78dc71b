"""``python -m regathlon`` is the command line."""

import sys

from regathlon.cli import main

if __name__ == "__main__":
    sys.exit(main())
