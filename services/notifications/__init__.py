"""Reminders, nudges, messages and pages: planned durably, sent once, at an hour the member agreed to."""
