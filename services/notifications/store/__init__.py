"""SQL of notifications: plain functions on a connection, arrays in and out."""
