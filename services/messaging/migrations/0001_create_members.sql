-- What messaging knows of a member and of the people who care for them, from careloop.members and careloop.contacts.
create table member_profiles (
    member_id uuid primary key,
    -- 'known' = only heard of (an event came before the enrolment); a screened person may never enrol
    status text not null default 'known' check (status in ('known', 'screened', 'active', 'paused', 'disenrolled')),
    state text,
    time_zone text,
    language text not null default 'en' check (language in ('en', 'es')),
    cause text,
    signs text[] not null default '{}',
    goals text[] not null default '{}',
    usual_pain int check (usual_pain between 0 and 10),
    days_per_week int,
    enrolled_at timestamptz,
    paused_until timestamptz,
    -- "channel topic" -> granted
    consents jsonb not null default '{}',
    pt_id uuid,
    coach_id uuid,
    team_reason text
);
create index member_profiles_pt on member_profiles (pt_id);
create index member_profiles_coach on member_profiles (coach_id);

-- Names alone: addresses and numbers are not needed here and so not kept.
create table member_contacts (
    member_id uuid primary key,
    given_name text not null,
    family_name text not null,
    time_zone text not null,
    language text not null check (language in ('en', 'es'))
);

create table practitioners (
    practitioner_id uuid primary key,
    role text not null check (role in ('pt', 'coach', 'oncall')),
    name text not null,
    -- of their working hours
    time_zone text not null default 'America/New_York',
    -- hours nobody entered yet: the default week of the visit rules
    hours_assumed boolean not null default true
);

-- Weekly working hours on the practitioner's own wall clock; none cross midnight.
create table practitioner_hours (
    practitioner_id uuid not null references practitioners,
    weekday int not null check (weekday between 1 and 7),
    starts_at time not null,
    ends_at time not null check (ends_at > starts_at),
    primary key (practitioner_id, weekday, starts_at)
);

-- While absent, a practitioner is skipped: no alert is theirs first, no slot is offered.
create table practitioner_absences (
    absence_id uuid primary key,
    practitioner_id uuid not null,
    during tstzrange not null check (not isempty(during))
);
create index practitioner_absences_of on practitioner_absences (practitioner_id);

-- A member with their names and the names of their care team.
create view care_profiles as
select p.member_id, p.status, p.state, coalesce(c.time_zone, p.time_zone) as time_zone,
    coalesce(c.language, p.language) as language, c.given_name, c.family_name, p.cause, p.signs, p.goals, p.usual_pain,
    p.days_per_week, p.enrolled_at, p.paused_until, p.consents, p.team_reason,
    pt.practitioner_id as pt_id, pt.role as pt_role, pt.name as pt_name,
    coach.practitioner_id as coach_id, coach.role as coach_role, coach.name as coach_name
from member_profiles p
left join member_contacts c using (member_id)
left join practitioners pt on pt.practitioner_id = p.pt_id
left join practitioners coach on coach.practitioner_id = p.coach_id;
