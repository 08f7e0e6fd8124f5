"""A local OpenID Connect issuer for `make up`: simulated people only, never for production."""
