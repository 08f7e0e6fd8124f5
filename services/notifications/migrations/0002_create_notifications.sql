-- One row per message to one person about one thing. The id derives from the occasion: planning it again changes nothing.
-- planned -> sending -> sent | failed | unknown; sending -> planned where nothing was accepted;
-- planned -> suppressed | expired | failed; unknown -> sent when a late answer tells.
create table notifications (
    notification_id uuid primary key,
    member_id uuid not null,
    topic text not null,
    template text not null,
    about text not null,
    params jsonb not null,
    page_role text,
    state text not null default 'planned'
        check (state in ('planned', 'sending', 'sent', 'failed', 'suppressed', 'expired', 'unknown')),
    reason text,
    channel text,
    -- clinic time
    planned_at timestamptz not null,
    not_before timestamptz not null,
    stale_at timestamptz not null,
    attempted_at timestamptz,
    settled_at timestamptz,
    -- written before an attempt: its number and until when (machine time) the process that makes it may still answer
    attempts int not null default 0,
    -- attempts that the provider refused for now
    failures int not null default 0,
    answer_by timestamptz,
    last_error text,
    cause jsonb not null,
    check ((state = 'sending') = (answer_by is not null))
) with (fillfactor = 70);
create index notifications_due on notifications (not_before) where state = 'planned';
create index notifications_sending on notifications (answer_by) where state = 'sending';
create index notifications_member on notifications (member_id, planned_at);
