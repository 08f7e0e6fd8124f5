"""`careloop`: the operator's hand. Each command finds a running stack by its data directory."""
