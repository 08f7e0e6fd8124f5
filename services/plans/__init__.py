"""Plans: what a member is asked to do, why, and what their answers mean."""
