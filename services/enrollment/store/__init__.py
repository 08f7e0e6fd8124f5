"""SQL of enrollment: plain functions on a connection."""
