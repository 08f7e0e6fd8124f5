"""What enrollment does on a command or a timer, one file each."""
