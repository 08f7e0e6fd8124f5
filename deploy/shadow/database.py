"""The database of a shadow: made for one run, looked at, dropped."""

from urllib.parse import urlsplit, urlunsplit

import asyncpg

from deploy.local.databases import database_name
from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack
from shared.migrating import migrate

# What was read of the log, to hold it against the live inbox: an event's own identity, and that of its place.
READ = "create table public.shadow_read (consumer_group text not null, identity bytea not null, place bytea not null)"


def shadow_name(stack: Stack, service: str) -> str:
    """Such as careloop_shadow_plans."""
    return database_name(f"shadow_{service}", namespace=stack.namespace)


def shadow_url(stack: Stack, service: str) -> str:
    """The shadow's database, as the service's own role."""
    parts = urlsplit(stack.services[service].database_url)
    return urlunsplit(parts._replace(path=f"/{shadow_name(stack, service)}"))


async def make_shadow(stack: Stack, service: str) -> str:
    """An empty, migrated database that only the service's role may enter; its URL. LocalProblem if there is one."""
    name, owner = shadow_name(stack, service), urlsplit(stack.services[service].database_url).username
    connection = await asyncpg.connect(stack.postgres_url, timeout=10)
    try:
        if await connection.fetchval("select exists (select from pg_database where datname = $1)", name):
            raise LocalProblem(
                f"There is a shadow of {service} already: `careloop shadow drop --service {service}` removes it."
            )
        await connection.execute(f'create database "{name}" owner "{owner}"')
        await connection.execute(f'revoke all on database "{name}" from public')
    finally:
        await connection.close()
    url = shadow_url(stack, service)
    await migrate(url, service=service)
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(READ)
    finally:
        await connection.close()
    return url


async def drop_shadow(stack: Stack, service: str) -> bool:
    """Whether there was one."""
    name = shadow_name(stack, service)
    connection = await asyncpg.connect(stack.postgres_url, timeout=10)
    try:
        there: bool = await connection.fetchval("select exists (select from pg_database where datname = $1)", name)
        if there:
            await connection.execute(f'drop database "{name}" with (force)')
        return there
    finally:
        await connection.close()
