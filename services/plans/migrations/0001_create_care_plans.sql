-- One row per member: the plan and everything the rules need to decide about the next event.
create table care_plans (
    member_id uuid primary key,
    plan_id uuid not null,
    -- 0 until the first plan is issued
    version int not null check (version >= 0),
    status text not null check (status in ('active', 'paused', 'ended', 'awaiting-phase')),
    -- the value as compact JSON, in the layout that its first member numbers (services/plans/store/packing.py)
    state bytea not null
) with (fillfactor = 50);

-- Every version of a plan as it was told: which rule, which version of it, on which evidence.
create table plan_revisions (
    plan_id uuid not null,
    version int not null check (version >= 1),
    member_id uuid not null,
    decided_at timestamptz not null,
    -- plan.issued or plan.revised, as published
    event text not null check (event in ('plan.issued', 'plan.revised')),
    data jsonb not null,
    primary key (plan_id, version)
);
create index plan_revisions_member on plan_revisions (member_id, decided_at);

-- Who may see and change a member's plan.
create table care_teams (
    member_id uuid primary key,
    pt_id uuid not null,
    coach_id uuid not null
);
