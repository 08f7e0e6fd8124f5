"""HTTP of enrollment: parse, a handler in a transaction, an answer."""

from services.enrollment.api import imports, intakes, members, practitioners, sponsors

ROUTERS = [sponsors.router, imports.router, practitioners.router, intakes.router, members.router]
