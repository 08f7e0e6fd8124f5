-- A person whom enrollment knows by a random UUID, and where they stand.
create table memberships (
    member_id uuid primary key,
    sponsor_id uuid not null,
    person_id text not null,
    status text not null check (status in ('blocked', 'cleared', 'waitlisted', 'enrolled', 'paused', 'disenrolled')),
    -- waitlisted: why no care team was found; blocked: the disposition; disenrolled: why
    status_reason text not null,
    status_since timestamptz not null,
    state text not null,
    language text not null,
    time_zone text not null,
    pt_id uuid references practitioners,
    coach_id uuid references practitioners,
    -- why the last attempt to move them to another care team failed; null: none did
    reassignment_problem text,
    paused_until timestamptz,
    -- the intake that the present status rests on
    intake_id uuid not null,
    unique (sponsor_id, person_id),
    foreign key (sponsor_id, person_id) references coverages,
    check ((status in ('enrolled', 'paused')) = (pt_id is not null and coach_id is not null)),
    check ((pt_id is null) = (coach_id is null)),
    check (paused_until is null or status = 'paused')
);
create index memberships_pt on memberships (pt_id) where pt_id is not null;
create index memberships_coach on memberships (coach_id) where coach_id is not null;
create index memberships_unplaced on memberships (status_since)
    where status = 'waitlisted' or reassignment_problem is not null;

create table intakes (
    intake_id uuid primary key,
    member_id uuid not null,
    taken_at timestamptz not null,
    findings text[] not null,
    disposition text not null,
    rule_id text not null,
    rule_version int not null,
    -- the data of member.enrolled, kept until a care team is found
    enrolment jsonb,
    -- channels the member consented to, announced with the enrolment
    channels text[] not null
);
create index intakes_member on intakes (member_id, taken_at);
alter table memberships add foreign key (intake_id) references intakes deferrable initially deferred;

-- A clinician looked at what blocked someone and let them go on.
create table clearances (
    clearance_id uuid primary key,
    member_id uuid not null references memberships,
    intake_id uuid not null unique references intakes,
    findings text[] not null,
    cleared_by uuid not null,
    reason text not null,
    cleared_at timestamptz not null,
    expires_at timestamptz not null
);
create index clearances_member on clearances (member_id, expires_at);

create table contacts (
    member_id uuid primary key references memberships,
    given_name text not null,
    family_name text not null,
    email text,
    phone text,
    time_zone text not null,
    language text not null
);

create table consents (
    member_id uuid not null references memberships,
    channel text not null,
    topic text not null,
    granted boolean not null,
    given_by text not null,
    given_at timestamptz not null,
    primary key (member_id, channel, topic)
);

-- The answer to a command that may be sent again: same caller and key, same answer.
create table answers (
    caller text not null,
    idempotency_key text not null,
    digest bytea not null,
    status int not null,
    -- its bytes, so that a repeat gets the very same
    body bytea not null,
    answered_at timestamptz not null,
    primary key (caller, idempotency_key)
);
create index answers_age on answers (answered_at);
