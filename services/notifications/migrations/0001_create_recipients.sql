-- What is known of members as readers of notifications. Each table follows one topic, so their order does not matter.
create table enrollments (
    member_id uuid primary key,
    status text not null check (status in ('unknown', 'enrolled', 'paused', 'disenrolled')),
    paused_until timestamptz,
    state text,
    time_zone text,
    language text,
    pt_id uuid,
    coach_id uuid
);

create table contacts (
    member_id uuid primary key,
    given_name text not null,
    email text,
    phone text,
    time_zone text not null,
    language text not null
);
create index contacts_phone on contacts (phone) where phone is not null;

-- The latest word per channel and topic ('all' covers every topic).
create table consents (
    member_id uuid not null,
    channel text not null,
    topic text not null,
    granted boolean not null,
    given_at timestamptz not null,
    primary key (member_id, channel, topic)
);

-- An address that said STOP, whoever it belongs to.
create table opt_outs (
    channel text not null,
    address text not null,
    opted_out_at timestamptz not null,
    primary key (channel, address)
);

-- Text messages taken, so that a provider's repeat of one changes nothing.
create table inbound_texts (
    provider_id text primary key,
    taken_at timestamptz not null default clock_timestamp()
);

-- What signs unsubscribe links where the operator gives no secret: made once, then kept.
create table signing_secrets (
    name text primary key,
    secret text not null
);

create table session_schedules (
    member_id uuid primary key,
    weekdays smallint[] not null,
    local_time text not null,
    time_zone text not null,
    -- when these weekdays and this time came into force
    since timestamptz not null,
    -- the latest local day whose reminder was handled
    reminded_on date,
    cause jsonb not null
);

-- The latest session of a member; it may come before the plan.
create table latest_sessions (
    member_id uuid primary key,
    started_at timestamptz not null
);

create table visits (
    visit_id uuid primary key,
    member_id uuid not null,
    starts_at timestamptz not null,
    status text not null check (status in ('booked', 'cancelled', 'completed', 'missed'))
);
create index visits_member on visits (member_id);
