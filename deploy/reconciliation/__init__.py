"""Proof that nothing is lost or doubled: the log, the positions, the inboxes, the outboxes and the timers add up."""
