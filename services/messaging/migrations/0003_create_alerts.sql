-- One row per episode that needs a person. It leaves the queue only when a person (or the end of its reason) resolves it.
create table alerts (
    alert_id uuid primary key,
    member_id uuid not null,
    kind text not null check (kind in
        ('pain-spike', 'safety', 'lapse', 'missed-visit', 'unanswered-message', 'bounced-contact')),
    episode_key text not null,
    priority text not null check (priority in ('emergency', 'urgent', 'soon', 'routine')),
    status text not null check (status in ('open', 'acknowledged', 'resolved')),
    -- one line with the number: "pain 7, usual 3"
    summary text not null,
    reason text not null,
    rule_id text not null,
    rule_version int not null,
    evidence jsonb not null default '[]',
    raised_at timestamptz not null,
    last_raised_at timestamptz not null,
    repeats int not null default 0,
    -- none = the on-call role as a whole
    owner_id uuid,
    owner_role text not null check (owner_role in ('pt', 'coach', 'oncall')),
    owner_name text,
    level int not null default 0,
    respond_by timestamptz not null,
    snoozed_until timestamptz,
    settled_at timestamptz,
    acknowledged_by uuid,
    acknowledged_by_role text,
    acknowledged_by_name text,
    acknowledged_at timestamptz,
    resolved_by uuid,
    resolved_by_name text,
    resolved_at timestamptz,
    outcome text,
    note text,
    -- the alert.raised event that asked last: what is done about the alert names it as its cause
    cause_source text not null,
    cause_id text not null,
    cause_chain text not null,
    cause_traceparent text,
    unique (member_id, kind, episode_key),
    check ((status = 'resolved') = (resolved_at is not null)),
    check ((status = 'acknowledged') <= (acknowledged_at is not null))
);
create index alerts_unresolved on alerts (member_id) where status <> 'resolved';
create index alerts_owner on alerts (owner_id, respond_by) where status <> 'resolved';
create index alerts_oncall on alerts (respond_by) where status <> 'resolved' and owner_role = 'oncall';
create index alerts_member on alerts (member_id, raised_at desc);

-- What was done about an alert, by whom.
create table alert_actions (
    action_id bigint generated always as identity primary key,
    alert_id uuid not null references alerts,
    action text not null check (action in
        ('raised', 'repeated', 'acknowledged', 'undone', 'snoozed', 'woke', 'handed-over', 'escalated', 'settled', 'resolved')),
    done_at timestamptz not null,
    by_id uuid,
    by_name text,
    detail text not null default ''
);
create index alert_actions_of on alert_actions (alert_id, action_id);
