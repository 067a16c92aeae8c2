"""What holds for all tests below this folder."""

from no_skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
