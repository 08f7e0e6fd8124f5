"""Counts and writes docs/statements.md: `python -m tests.statements`."""

import sys

import pytest

from tests.statements.page import HEAD, PAGE, RUN

if __name__ == "__main__":
    RUN.writes = True
    PAGE.write_text(HEAD)
    sys.exit(pytest.main(["-n", "0", "-q", "-k", "counted", "tests/statements/test_statements.py"]))
