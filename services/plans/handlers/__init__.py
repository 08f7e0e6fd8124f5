"""One file per reaction or command: load all, decide each, save all."""
