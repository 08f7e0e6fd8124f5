-- Employers and health plans that pay. The benefit costs the member nothing, so there is no price here.
create table sponsors (
    sponsor_id uuid primary key,
    name text not null,
    -- where the benefit may be used
    states text[] not null,
    covers_from date not null,
    -- last day of the contract; null: open
    covers_until date,
    -- subjects of the identity issuer that may act for this sponsor
    administrators text[] not null default '{}',
    changed_at timestamptz not null,
    check (covers_until is null or covers_until >= covers_from)
);

-- One file that a sponsor sent. receiving -> received -> applied; or held until confirmed; or failed, discarded, replaced.
create table roster_imports (
    import_id uuid primary key,
    sponsor_id uuid not null references sponsors,
    mode text not null check (mode in ('full', 'delta')),
    state text not null check (state in ('receiving', 'received', 'held', 'applied', 'failed', 'discarded', 'replaced')),
    reason text,
    -- order of arrival: an older file is never applied over a newer one
    arrival bigint generated always as identity,
    received_by text not null,
    received_at timestamptz not null,
    finished_at timestamptz,
    -- machine time, to notice an upload whose process died
    started_at timestamptz not null default clock_timestamp(),
    confirmed_by text,
    ignored_columns text[] not null default '{}',
    rows_read bigint not null default 0,
    rows_accepted bigint not null default 0,
    rows_rejected bigint not null default 0,
    -- rejected rows that did not even say whose they are
    rows_unreadable bigint not null default 0,
    persons_added bigint not null default 0,
    persons_changed bigint not null default 0,
    persons_unchanged bigint not null default 0,
    persons_ended bigint not null default 0,
    members_ending bigint not null default 0
);
create index roster_imports_open on roster_imports (arrival) where state = 'received';
create index roster_imports_of_sponsor on roster_imports (sponsor_id, arrival);

-- Why a row was not taken. The first ones of each file; roster_imports.rows_rejected counts all. Never the value itself.
create table roster_rejections (
    import_id uuid not null references roster_imports on delete cascade,
    line bigint not null,
    field text not null,
    reason text not null,
    primary key (import_id, line)
);

-- The shape of a file's rows while they wait to be applied. Each file gets an unlogged copy, filled by COPY and dropped
-- when it is done: millions of rows leave nothing to vacuum. An emptied one (unlogged, after a crash) is noticed by its count.
create table roster_staging (
    line bigint not null,
    -- null only in a rejected row that did not say whose it is
    person_id text,
    date_of_birth date,
    state text,
    effective_from date,
    effective_to date,
    rejected boolean not null
);

-- Who is covered: the roster as it stands.
create table coverages (
    sponsor_id uuid not null references sponsors,
    -- the sponsor's own identifier of the person, dependants apart
    person_id text not null,
    date_of_birth date not null,
    state text not null,
    effective_from date not null,
    -- last day covered; null: open; the day before effective_from: withdrawn before it began
    effective_to date,
    changed_by uuid not null references roster_imports,
    changed_at timestamptz not null,
    primary key (sponsor_id, person_id),
    check (effective_to is null or effective_to >= effective_from - 1)
);
