"""Fixtures of the whole suite. Each file of tests/fixtures tells what it gives."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.topics",
    "tests.fixtures.tokens",
    "tests.fixtures.services",
    "tests.fixtures.processes",
    "tests.fixtures.no_skips",
]
