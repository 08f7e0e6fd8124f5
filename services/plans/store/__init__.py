"""All SQL of plans, and the reading of its rule data. Plain functions, always plural."""
