"""Options of the test suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# The same examples in every run; other ones where ARCHC_RANDOM is set. How slow a busy machine is, is no failure.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("random" if "ARCHC_RANDOM" in os.environ else "same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite what the pages under tests/cases expect")
