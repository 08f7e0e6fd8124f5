"""Fixtures of the whole suite. Each file of tests/fixtures tells what it gives."""

from hypothesis import settings

# A busy machine is no failure: how long an example takes is never a verdict.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.topics",
    "tests.fixtures.tokens",
    "tests.fixtures.services",
    "tests.fixtures.processes",
    "tests.fixtures.no_skips",
]
