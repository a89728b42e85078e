"""The converter's own error: the input was fine, the work failed."""

from __future__ import annotations


class ConversionError(Exception):
    """The conversion died or its result is not good enough: str(error) is one line; the exit code is 1."""
