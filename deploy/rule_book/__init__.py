"""The rule book: every clinical rule in force with its owner, mark and source, as a page."""
