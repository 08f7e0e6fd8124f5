"""The four services. They speak to each other only through events."""
