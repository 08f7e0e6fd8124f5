-- What every service needs to take events exactly once, in order for each member, and to publish what it decided.
create schema delivery;

-- One row per consumer group, topic and partition: the fence and the counts. Locked first by every chunk.
create table delivery.positions (
    consumer_group text not null,
    topic text not null,
    partition int not null,
    next_offset bigint not null,
    -- starts without progress since the last committed chunk: an event that kills the process shows here
    stalled_starts int not null default 0,
    records_read bigint not null default 0,
    records_new bigint not null default 0,
    records_duplicate bigint not null default 0,
    records_refused bigint not null default 0,
    records_dead bigint not null default 0,
    records_parked bigint not null default 0,
    records_waiting bigint not null default 0,
    first_offset bigint not null,
    primary key (consumer_group, topic, partition)
) with (fillfactor = 50);

-- One row per member: whoever decides something about a member locks it first, in the order of member_id.
create table delivery.member_locks (
    member_id uuid primary key
);

-- What was taken, by hash of (consumer group, source, id). A row means "taken"; outcome says how it ended.
create table delivery.inbox (
    identity bytea primary key,
    digest bytea not null,
    outcome text not null default 'applied'
        check (outcome in ('applied', 'ignored', 'refused', 'parked', 'waiting', 'dead', 'discarded')),
    detail text,
    taken_at timestamptz not null default clock_timestamp()
);
create index inbox_taken_at on delivery.inbox using brin (taken_at);

-- Events that could not be applied when they came: dead letters, what is parked behind one, and what waits.
create table delivery.held_events (
    held_id bigint generated always as identity (cache 1) primary key,
    consumer_group text not null,
    topic text not null,
    partition int not null,
    record_offset bigint not null,
    record_key bytea,
    member_id uuid,
    -- later events of the same member queue behind this one
    blocks boolean not null,
    state text not null check (state in ('dead', 'parked', 'waiting')),
    reason text not null,
    detail text,
    identity bytea not null,
    source text,
    event_id text,
    value bytea,
    -- as JSON text, which may hold what jsonb refuses: a NUL in a name
    headers json not null,
    record_at timestamptz not null,
    held_at timestamptz not null default clock_timestamp(),
    -- clinic time after which an event that waits becomes a dead letter
    expires_at timestamptz,
    replays int not null default 0,
    check (not blocks or member_id is not null),
    check (state <> 'waiting' or expires_at is not null),
    -- with the record's time, because a topic that was made anew counts its offsets from zero again
    unique (consumer_group, topic, partition, record_offset, record_at)
);
create index held_events_queue on delivery.held_events (member_id, consumer_group, topic, held_id) where blocks;
create index held_events_waiting on delivery.held_events (expires_at) where state = 'waiting';
create index held_events_dead on delivery.held_events (held_id) where state = 'dead';

-- Attempts at one record, written before each while a partition makes no progress over several starts.
create table delivery.attempts (
    consumer_group text not null,
    topic text not null,
    partition int not null,
    record_offset bigint not null,
    attempts int not null,
    primary key (consumer_group, topic, partition, record_offset)
);

-- Events to publish. The id orders one member's events because it is drawn after the member is locked.
create table delivery.outbox (
    outbox_id bigint generated always as identity (cache 1) primary key,
    topic text not null,
    member_id uuid not null,
    value bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    -- what a safety group decided: handed over beside everything else, never behind it
    urgent boolean not null default false,
    -- Kafka's hash of the member, so that the rows of a partition can be passed over; null where nobody computed it
    key_hash int
);
create index outbox_urgent on delivery.outbox (outbox_id) where urgent;

-- Something due at a clinic time.
create table delivery.timers (
    kind text not null,
    key text not null,
    member_id uuid not null,
    due_at timestamptz not null,
    payload jsonb not null,
    cause jsonb not null,
    -- a handler that failed is tried again then (machine time), up to a limit
    failures int not null default 0,
    retry_at timestamptz,
    primary key (kind, key)
);
create index timers_due on delivery.timers (due_at);
create index timers_member on delivery.timers (member_id, kind);

-- What operators did by hand, and why.
create table delivery.operations (
    operation_id bigint generated always as identity primary key,
    done_at timestamptz not null default clock_timestamp(),
    done_by text not null,
    action text not null,
    reason text not null,
    details jsonb not null
);

-- Which process hands over the outbox. Two at once would only publish twice; the inboxes drop that.
create table delivery.relay_lease (
    only_row boolean primary key default true check (only_row),
    holder uuid not null,
    expires_at timestamptz not null
);
