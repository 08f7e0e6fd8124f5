"""Real services on real servers, hurt by a seeded driver and judged by an oracle that knows the accepted events alone.

docs/chaos.md tells what is done to them and what must hold.
"""
