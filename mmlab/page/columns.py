"""Compact text encoding of integer columns, read by the page's script."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from mmlab.state import Ints

_MOST = 2**29
"""Largest absolute value; larger ones are clipped, as the script reads numbers of 31 bits."""


def column(values: Ints | Sequence[int]) -> str:
    """Encode numbers as base64 of varints: 7 bits per byte, lowest first, sign in the lowest bit.

    >>> column([0, -1, 1, 300])
    'AAEC2AQ='
    """
    numbers = np.clip(np.asarray(values, np.int64), -_MOST, _MOST)
    signed = (numbers << 1) ^ (numbers >> 63)
    shifts = np.arange(0, 35, 7)
    parts = signed[:, None] >> shifts
    used = (parts > 0) | (shifts == 0)
    more = (signed[:, None] >> (shifts + 7)) > 0
    written = ((parts & 127) | (more << 7))[used]
    return base64.b64encode(written.astype(np.uint8).tobytes()).decode()


def differences(values: Ints) -> str:
    """Encode the differences of consecutive numbers with `column`, for growing numbers.

    >>> differences(np.array([1000, 1001, 1003])) == column([1000, 1, 2])
    True
    """
    return column(np.diff(values, prepend=0))
