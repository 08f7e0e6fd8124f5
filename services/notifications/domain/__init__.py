"""Rules of notifications: when, whether, to whom, how often. Pure."""
