"""Careloop on one machine: embedded servers, a token issuer, a mail sink, and the supervisor of `careloop up`."""
