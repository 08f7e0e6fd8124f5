"""A shadow: a service's state built once more from the log, beside the live one and without any effect outside."""
