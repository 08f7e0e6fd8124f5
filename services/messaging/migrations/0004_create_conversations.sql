-- One conversation per member, with the whole care team.
create table conversations (
    member_id uuid primary key,
    conversation_id uuid not null unique,
    last_number int not null default 0,
    last_message_at timestamptz,
    -- the first message of the member that nobody has answered yet
    awaiting_message_id uuid,
    awaiting_since timestamptz
);
create index conversations_awaiting on conversations (awaiting_since) where awaiting_since is not null;

create table messages (
    message_id uuid primary key,
    member_id uuid not null references conversations (member_id),
    number int not null,
    sender_role text not null check (sender_role in ('member', 'pt', 'coach', 'oncall', 'system')),
    sender_id uuid not null,
    sender_name text not null,
    body text not null check (length(body) between 1 and 4000),
    sent_at timestamptz not null,
    alert_id uuid references alerts,
    unique (member_id, number)
);

-- How far each person has read.
create table message_reads (
    member_id uuid not null references conversations (member_id),
    reader_id uuid not null,
    number int not null,
    read_at timestamptz not null,
    primary key (member_id, reader_id)
);
