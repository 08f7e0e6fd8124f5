-- Who is signed in to the console. Only hashes of what the browser holds are kept. Machine time throughout.
create table console_sessions (
    session_hash bytea primary key,
    practitioner_id uuid not null,
    roles text[] not null,
    name text not null,
    language text not null check (language in ('en', 'es')),
    -- proves that a form came from our own page
    form_token text not null,
    signed_in_at timestamptz not null default clock_timestamp(),
    -- last time the person did something; live updates do not count
    active_at timestamptz not null default clock_timestamp()
);
create index console_sessions_active on console_sessions (active_at);

-- A sign-in on its way through the issuer and back: works once, within ten minutes.
create table console_sign_ins (
    sign_in_hash bytea primary key,
    state text not null,
    nonce text not null,
    code_verifier text not null,
    return_to text not null,
    started_at timestamptz not null default clock_timestamp()
);
create index console_sign_ins_started on console_sign_ins (started_at);
