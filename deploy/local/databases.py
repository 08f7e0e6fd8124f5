"""A database and a role for each service, so that none can read another's."""

from urllib.parse import urlsplit, urlunsplit

import asyncpg


def service_database_url(superuser_url: str, *, name: str, password: str) -> str:
    """The same server's URL for a service's own role and database, both called `name`."""
    parts = urlsplit(superuser_url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{place}", path=f"/{name}"))


def database_name(service: str, *, namespace: str) -> str:
    """Database and role of a service: careloop_plans, or careloop_t3f9_plans in the namespace t3f9."""
    return "_".join(part for part in ("careloop", namespace.replace("-", "_"), service) if part)


async def create_databases(superuser_url: str, passwords: dict[str, str]) -> None:
    """Makes what is missing of each database and role of `passwords` (name -> password), and sets the passwords.

    Names come from `database_name`, passwords from `secrets.token_urlsafe`: both are safe inside quotes. Raises what
    asyncpg raises.
    """
    connection = await asyncpg.connect(superuser_url, timeout=10)
    try:
        roles = {row["rolname"] for row in await connection.fetch("select rolname from pg_roles")}
        databases = {row["datname"] for row in await connection.fetch("select datname from pg_database")}
        for name, password in passwords.items():
            verb = "alter" if name in roles else "create"
            await connection.execute(f"{verb} role \"{name}\" login password '{password}'")
            if name not in databases:
                await connection.execute(f'create database "{name}" owner "{name}"')
            # Anyone may connect to a new database: its owner keeps the right, all others lose it.
            await connection.execute(f'revoke all on database "{name}" from public')
    finally:
        await connection.close()


async def database_cluster(superuser_url: str) -> str:
    """What tells this database cluster from every other, also after it moved. Raises what asyncpg raises."""
    connection = await asyncpg.connect(superuser_url, timeout=10)
    try:
        return str(await connection.fetchval("select system_identifier from pg_control_system()"))
    finally:
        await connection.close()
