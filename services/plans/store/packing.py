"""A care plan as bytes: JSON arrays in the order of their members, the number of the layout first.

What has columns of its own is left out. A new member is added at the end of its array with a new layout number, as is
a new value of a choice (tests/golden/care-plans), and `unpack_plan` reads every layout that was ever written.
"""

from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import astuple, fields

from services.plans.domain.care_plan import CarePlan, Status
from shared.database import FromNextRelease

LAYOUT = 4
COLUMNS = 4
"""The first members of a plan: member_id, plan_id, version, status."""
KEPT: Any = tuple[(int, *(field.type for field in fields(CarePlan)[COLUMNS:]))]  # type: ignore[misc]

_THIS = f"[{LAYOUT},".encode()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(KEPT).decode


def pack_plan(plan: CarePlan) -> bytes:
    return _encode((LAYOUT, *astuple(plan)[COLUMNS:]))


def unpack_plan(state: bytes, *, member_id: UUID, plan_id: UUID, version: int, status: Status) -> CarePlan:
    """The plan of a row. FromNextRelease for a layout that this version does not know: no event's fault."""
    kept = _decode(state) if state.startswith(_THIS) else _from_layout_before(state)
    return CarePlan(member_id, plan_id, version, status, *kept[1:])


def _from_layout_before(state: bytes) -> Any:
    """Layout 3 ends before the times of a red flag, of a review and of the end of care."""
    layout, *values = msgspec.json.decode(state)
    if not 0 < layout < LAYOUT:
        raise FromNextRelease(f"a care plan in layout {layout}; this version reads 1 to {LAYOUT}")
    if layout < 3:
        _put_refs_where_they_are_used(values)
    return msgspec.convert([LAYOUT, *values, None, None, None], KEPT)


def _put_refs_where_they_are_used(values: list[Any]) -> None:
    """Layouts 1 and 2 wrote each reference to an event once, at the end, and named it by its place."""
    refs = values.pop()
    items, adherence, safety = values[2], values[6], values[7]
    for item in items:
        item[7] = [refs[place] for place in item[7]]
    for array, at in ((adherence, 2), (safety, 1)):
        if array is not None and array[at] is not None:
            array[at] = refs[array[at]]
