"""Reactions and commands of notifications: load all, decide each, save all."""
