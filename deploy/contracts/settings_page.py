"""docs/reference/settings.md and metrics.md: read from the settings classes and the metrics themselves."""

import types
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from inspect import getmembers, isclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deploy.contracts.tables import code, page, table
from shared.identities import ClaimSettings
from shared.settings import ServiceSettings

ROOT = Path(__file__).parents[2]


def settings_page() -> str:
    """Every setting as Markdown: those that all services have, each service's own, those of the local stack."""
    services = [
        f"## {'/'.join(module.split('.')[1:-1])}\n\n{_settings_table(settings, besides=ServiceSettings)}"
        for module, settings in settings_classes("services")
    ]
    local = [
        f"## {'/'.join(module.split('.')[1:-1])}\n\n{_settings_table(settings)}"
        for module, settings in settings_classes("deploy")
    ]
    of_tests = [f"## {module.split('.')[0]}\n\n{_settings_table(found)}" for module, found in settings_classes("tests")]
    return page(
        "Settings",
        "Every service is its own process and reads its own environment. A missing or unfit value stops it at the "
        "start with the name of the setting. The last sections are of what only runs on one machine: `make up`, its "
        "token issuer and its mail sink, the tests.",
        f"## All services\n\n{_settings_table(ServiceSettings)}",
        f"How an issuer's tokens name things ([0008](../decisions/0008-who-is-who-and-who-sees-whom.md)), also for all:"
        f"\n\n{_settings_table(ClaimSettings)}",
        *services,
        *local,
        *of_tests,
    )


def documented_variables() -> set[str]:
    """Every variable of the environment that the page tells of."""
    every: list[type[BaseSettings]] = [ServiceSettings, ClaimSettings]
    every += [settings for package in ("services", "deploy", "tests") for _, settings in settings_classes(package)]
    return {_variable(settings, name) for settings in every for name in settings.model_fields}


def settings_classes(package: str) -> Iterator[tuple[str, type[BaseSettings]]]:
    """(module, class) of each settings class below a package, by module."""
    for path in sorted((ROOT / package).rglob("settings.py")):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for _, found in getmembers(module, isclass):
            if issubclass(found, BaseSettings) and found.__module__ == module.__name__:
                yield module.__name__, found


def metrics_page() -> str:
    """Every metric as Markdown, from the objects that count."""
    rows = [
        (
            code(family.name + ("_total" if family.type == "counter" else "")),
            family.type,
            ", ".join(code(label) for label in metric._labelnames),
            owner,
            family.documentation,
        )
        for owner, metric in metrics()
        for family in metric.describe()
    ]
    return page(
        "Metrics",
        "Each service answers them at `/metrics`, for Prometheus. No label or value ever names a member.",
        table(("metric", "kind", "labels", "of", "what it counts"), sorted(rows)),
    )


def metrics() -> Iterator[tuple[str, MetricWrapperBase]]:
    """(whose, metric) of each metric that a module of shared or of a service makes."""
    seen: set[int] = set()
    for package in ("shared", "services"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.stem == "__init__" or "prometheus_client" not in path.read_text("utf-8"):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            owner = parts[1] if package == "services" else "every service"
            for _, metric in getmembers(import_module(".".join(parts))):
                if isinstance(metric, MetricWrapperBase) and id(metric) not in seen:
                    seen.add(id(metric))
                    yield owner, metric


def _settings_table(settings: type[BaseSettings], *, besides: type[BaseSettings] | None = None) -> str:
    known = besides.model_fields if besides else {}
    rows = [
        (code(_variable(settings, name)), _type(field.annotation), _default(field), meaning(settings, name))
        for name, field in settings.model_fields.items()
        if name not in known or repr(known[name]) != repr(field)
    ]
    if not rows:
        return "None besides those of all services."
    return table(("variable", "values", "default", "meaning"), rows)


def meaning(settings: type[BaseSettings], name: str) -> str:
    """A setting's docstring; where a service only gives another default, that of all services."""
    for found in (settings, *settings.__mro__):
        fields = found.model_fields if issubclass(found, BaseSettings) else {}
        if name in fields and fields[name].description:
            return str(fields[name].description)
    return ""


def _variable(settings: type[BaseSettings], name: str) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    return "not set" if value is None else code(value) if value != "" else "empty"


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if origin is Literal:
        return ", ".join(code(word) for word in get_args(annotation))
    if origin is not None:
        return f"{origin.__name__} of {', '.join(_type(part) for part in get_args(annotation))}"
    if annotation is SecretStr:
        return "text, secret"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))
