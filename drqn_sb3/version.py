"""Which version this is. Models are saved with it."""

__version__ = "0.1.0"
