"""Alerts, conversations, visits and the care-team console."""
