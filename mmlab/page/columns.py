"""Columns of whole numbers as short text, which the page's script reads."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from mmlab.state import Ints

_MOST = 2**29
"""What is further from 0 is written as this: the script reads numbers of 31 bits."""


def column(values: Ints | Sequence[int]) -> str:
    """Base64 of one varint per number: 7 bits a byte, least first, signs in the lowest bit.

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
    """The same for numbers that grow: each as the step from the one before.

    >>> differences(np.array([1000, 1001, 1003])) == column([1000, 1, 2])
    True
    """
    return column(np.diff(values, prepend=0))
