"""Fixtures of the environments' tests."""

from collections.abc import Iterator

import pytest

from .matches import original


@pytest.fixture
def original_globals() -> Iterator[None]:
    """Put slimevolleygym's module globals back, which its first pixel environment switches for good."""
    names = ("WINDOW_WIDTH", "WINDOW_HEIGHT", "FACTOR", "AGENT_LEFT_COLOR", "AGENT_RIGHT_COLOR", "PIXEL_MODE")
    before = {name: getattr(original, name) for name in names}
    yield
    for name, value in before.items():
        setattr(original, name, value)
