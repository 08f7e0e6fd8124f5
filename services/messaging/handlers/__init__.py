"""One file per command or reaction: load all, decide each, save all."""
