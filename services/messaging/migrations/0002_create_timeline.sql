-- Every event of a member that any service published, with what caused it: the causal chain is asked for here.
create table timeline (
    member_id uuid not null,
    source text not null,
    event_id text not null,
    -- short name, such as session.completed
    event_type text not null,
    service text not null,
    occurred_at timestamptz not null,
    correlation_id text not null,
    caused_by_source text,
    caused_by_id text,
    summary text not null,
    primary key (member_id, source, event_id)
);
create index timeline_time on timeline (member_id, occurred_at desc);
create index timeline_chain on timeline (correlation_id);

create table pain_readings (
    member_id uuid not null,
    source text not null,
    event_id text not null,
    context text not null check (context in ('now', 'average-24h', 'during-exercise', 'next-morning', 'usual')),
    felt_at timestamptz not null,
    score int not null check (score between 0 and 10),
    primary key (member_id, source, event_id, context)
);
create index pain_readings_time on pain_readings (member_id, felt_at);

create table sessions (
    member_id uuid not null,
    session_id uuid not null,
    completed_at timestamptz not null,
    duration_min int not null,
    pain_during int not null,
    exercises int not null,
    primary key (member_id, session_id)
);
create index sessions_time on sessions (member_id, completed_at);

-- The current plan as its last event told it.
create table plan_snapshots (
    member_id uuid primary key,
    plan_id uuid not null,
    version int not null,
    pathway text,
    elements jsonb not null default '[]',
    items jsonb not null,
    schedule jsonb not null,
    sessions_per_week int not null,
    reason text not null,
    rule_id text not null,
    rule_version int not null,
    issued_at timestamptz not null,
    changed_at timestamptz not null
);

create table plan_changes (
    member_id uuid not null,
    plan_id uuid not null,
    version int not null,
    place int not null,
    exercise text not null,
    action text not null,
    from_step int not null,
    to_step int not null,
    reason text not null,
    rule_id text not null,
    rule_version int not null,
    changed_at timestamptz not null,
    source text not null,
    event_id text not null,
    primary key (member_id, plan_id, version, place)
);

create table pain_episodes (
    episode_id uuid primary key,
    member_id uuid not null,
    started_at timestamptz not null,
    settled_at timestamptz,
    baseline real not null,
    score_max int not null
);
create index pain_episodes_of on pain_episodes (member_id, started_at);
