"""The command `mmlab`, as `python -m mmlab`."""

import sys

from mmlab.commands import main

if __name__ == "__main__":
    sys.exit(main())
