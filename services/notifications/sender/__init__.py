"""Sends what is due: claim, send outside of any transaction, record. Knows the channels' protocols."""
