"""Pure rules: no I/O, no clock; now is passed in."""
