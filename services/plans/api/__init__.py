"""HTTP: the ingress of the apps, and what they and the care team read."""
