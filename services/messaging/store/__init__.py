"""SQL: plain functions on a connection, always plural."""
