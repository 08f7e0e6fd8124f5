"""What can stop a local stack for a reason its user can mend."""


class LocalProblem(Exception):
    """One clear sentence for the person at the terminal. Printed without a traceback; the process exits 1."""
