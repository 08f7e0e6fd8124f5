"""Writes docs/reference/ from the code: `python -m deploy.contracts.generate`.

With `--accept` it also takes the schemas of today as those that later ones must be compatible with
(tests/golden/schemas); it refuses where a change is breaking.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

import orjson
import yaml

from deploy.contracts.asyncapi import asyncapi_document
from deploy.contracts.compatibility import breaking_changes
from deploy.contracts.events_page import events_page
from deploy.contracts.schemas import event_schema
from deploy.contracts.settings_page import metrics_page, settings_page
from deploy.contracts.tables import GENERATED
from deploy.contracts.topics_page import access_page, topics_page
from deploy.rule_book.page import rule_book
from shared.events.catalogue import EVENTS
from shared.events.envelope import CloudEvent, event_type

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
ACCEPTED = ROOT / "tests" / "golden" / "schemas"


def reference_files() -> dict[str, bytes]:
    """Every generated file by its path below docs/reference/."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pages = {
        "asyncapi.yaml": f"# {GENERATED[5:-4]}\n" + _yaml(asyncapi_document(version=version)),
        "events.md": events_page(),
        "topics.md": topics_page(),
        "access.md": access_page(),
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "rules.md": rule_book(),
    }
    files = {name: text.encode() for name, text in pages.items()}
    return files | {f"schemas/{name}": content for name, content in schema_files().items()}


def schema_files() -> dict[str, bytes]:
    """The JSON Schema of every event by its file name, such as `session.completed.v1.json`."""
    return {f"{versioned_name(event)}.json": _json(event_schema(event)) for event in EVENTS.values()}


def versioned_name(event: type[CloudEvent]) -> str:
    """Such as `session.completed.v1`."""
    return f"{event.NAME}.v{event_type(event).rsplit('.v', 1)[1]}"


def drifted(files: dict[str, bytes], folder: Path) -> list[str]:
    """Names of files that the folder lacks, has with another content, or has and should not."""
    present = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    differing = [
        name for name, content in files.items() if name not in present or present[name].read_bytes() != content
    ]
    return sorted({*differing, *(set(present) - set(files))})


def write(files: dict[str, bytes], folder: Path) -> list[str]:
    """Bring the folder to exactly these files; returns what changed."""
    changed = drifted(files, folder)
    for name in changed:
        path = folder / name
        if name not in files:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])
    return changed


def breaking_since_accepted() -> list[str]:
    """Every breaking change of an event since its schema was accepted, as `event: path: what`."""
    now = {name: orjson.loads(content) for name, content in schema_files().items()}
    problems = []
    for path in sorted(ACCEPTED.glob("*.json")):
        if path.name not in now:
            problems.append(f"{path.stem}: the event was removed")
            continue
        changes = breaking_changes(orjson.loads(path.read_bytes()), now[path.name])
        problems += [f"{path.stem}: {change}" for change in changes]
    return problems


def unversioned_since_accepted() -> list[str]:
    """Events whose schema changed since it was accepted while `dataschema` stayed: their MINOR must be raised."""
    now = {name: orjson.loads(content) for name, content in schema_files().items()}
    accepted = {path.name: orjson.loads(path.read_bytes()) for path in ACCEPTED.glob("*.json")}
    return [
        name.removesuffix(".json")
        for name, schema in sorted(now.items())
        if name in accepted and accepted[name]["$id"] == schema["$id"] and _bare(accepted[name]) != _bare(schema)
    ]


def _bare(member: Any) -> Any:
    """A schema without the words that only explain it."""
    if isinstance(member, list):
        return [_bare(part) for part in member]
    if not isinstance(member, dict):
        return member
    return {name: _bare(part) for name, part in member.items() if not (name == "description" and isinstance(part, str))}


def main(arguments: list[str]) -> int:
    if "--accept" in arguments:
        problems = breaking_since_accepted() or [f"{name}: raise MINOR" for name in unversioned_since_accepted()]
        if problems:
            print("\n".join(["Not accepted: a new version is needed.", *problems]), file=sys.stderr)
            return 1
        print("\n".join(f"accepted {name}" for name in write(schema_files(), ACCEPTED)) or "nothing new to accept")
    changed = write(reference_files(), REFERENCE)
    print("\n".join(f"wrote docs/reference/{name}" for name in changed) or "docs/reference/ is up to date")
    return 0


def _yaml(document: dict[str, Any]) -> str:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Plain.add_representer(
        str,
        lambda dumper, text: dumper.represent_scalar(
            "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
        ),
    )
    return yaml.dump(document, Dumper=Plain, sort_keys=False, width=120, allow_unicode=True)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
