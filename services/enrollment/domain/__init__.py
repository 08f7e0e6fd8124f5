"""Decisions of enrollment: pure, with time passed in."""
