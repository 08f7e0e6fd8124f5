create table practitioners (
    practitioner_id uuid primary key,
    role text not null check (role in ('pt', 'coach')),
    name text not null,
    -- states whose PT licence they hold; empty for a coach
    licensed_states text[] not null,
    languages text[] not null check (cardinality(languages) > 0),
    time_zone text not null,
    panel_limit int not null check (panel_limit >= 0),
    -- members whose care team names them; moved in the transaction that assigns or releases
    panel_size int not null default 0 check (panel_size >= 0),
    -- takes no new members: on leave, or handing over
    accepting boolean not null default true,
    changed_at timestamptz not null,
    check (role = 'coach' or cardinality(licensed_states) > 0)
);
