"""What a matplotlib figure says."""

from __future__ import annotations


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
    return " ".join(found)
