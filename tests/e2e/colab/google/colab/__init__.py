"""Stands in for Colab's own package, which its kernel has imported before the first cell."""

# Libraries that a kernel of Colab holds already when the first cell runs, or that a learner's own
# cell may have asked for: an install that changed them would need a restart.
import google.api_core
import google.auth
import google.protobuf  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import numpy  # noqa: F401
import pandas  # noqa: F401
import requests  # noqa: F401
