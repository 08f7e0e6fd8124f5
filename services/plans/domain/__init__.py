"""Pure rules: no I/O, no clock, no randomness, keyword-only, total. Times are Unix seconds."""
