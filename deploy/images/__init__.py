"""Container images of the three servers, FROM scratch, from what the locked environment already holds.

For tests on machines that reach no image registry. They take the same settings as the official images, so that the
tests' fixtures do not know which they run. Not for production.
"""
