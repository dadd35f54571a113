from __future__ import annotations

import pytest

from mmlab.draw import theme


@pytest.fixture(autouse=True)
def fresh_palette(monkeypatch):
    """Colours depend on the models that were drawn before: every test starts with none."""
    monkeypatch.setattr("mmlab.diagrams.model_palette", theme.Palette())
