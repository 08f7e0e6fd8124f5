-- A practitioner cannot be in two visits at once, and neither can a member: the database refuses it. btree_gist is a
-- trusted extension: the owner of the database may create it without being superuser.
create extension if not exists btree_gist;

create table visits (
    visit_id uuid primary key,
    member_id uuid not null,
    practitioner_id uuid not null,
    practitioner_role text not null check (practitioner_role in ('pt', 'coach')),
    practitioner_name text not null,
    during tstzrange not null check (lower_inc(during) and not upper_inc(during) and not isempty(during)),
    -- the member's zone when it was held
    time_zone text not null,
    reason text not null check (reason in ('first-visit', 'follow-up', 'pain-spike', 'safety', 'pt-review', 'other')),
    status text not null check (status in ('held', 'booked', 'completed', 'missed', 'cancelled')),
    hold_expires_at timestamptz,
    booked_at timestamptz,
    recommendation text check (recommendation in ('continue', 'step-back', 'hold', 'reviewed')),
    recommended_exercises text[] not null default '{}',
    note text,
    alert_id uuid references alerts,
    -- the event that what follows for the visit names as its cause: what led to the hold, then the visit's own last one
    cause_source text,
    cause_id text,
    cause_chain text,
    cause_traceparent text,
    check ((status = 'held') = (hold_expires_at is not null)),
    check (status <> 'completed' or recommendation is not null),
    constraint visits_practitioner_once exclude using gist (practitioner_id with =, during with &&)
        where (status in ('held', 'booked', 'completed', 'missed')),
    constraint visits_member_once exclude using gist (member_id with =, during with &&)
        where (status in ('held', 'booked', 'completed', 'missed'))
);
create index visits_member on visits (member_id, lower(during) desc);
create index visits_practitioner on visits (practitioner_id, lower(during));
