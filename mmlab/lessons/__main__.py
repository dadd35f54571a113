"""Make the data and models of the lessons: `python -m mmlab.lessons`."""

import sys

from mmlab.lessons.start import start

if __name__ == "__main__":
    try:
        start()
    except OSError as problem:
        sys.exit(f"The lessons' models could not be made: {problem}")
