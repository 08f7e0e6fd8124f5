"""What operators see of held events, and how many of them are replayed or discarded at once."""
