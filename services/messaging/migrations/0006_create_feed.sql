-- What changed, for whom to see. The number is taken from one row that stays locked until the writer commits, so numbers
-- become visible in order and without gaps: a reader that has seen 41 can never later find a 40 that committed late.
create table feed_head (
    only_row boolean primary key default true check (only_row),
    last_number bigint not null default 0,
    -- entries up to here have been pruned
    pruned_to bigint not null default 0
);
insert into feed_head default values;

create table feed (
    -- a practitioner, or the fixed id of the on-call role
    audience uuid not null,
    number bigint not null,
    kind text not null check (kind in ('alert', 'conversation', 'visit', 'member')),
    change text not null,
    member_id uuid not null,
    subject_id uuid not null,
    entered_at timestamptz not null,
    primary key (audience, number)
);
create index feed_entered on feed using brin (entered_at);
