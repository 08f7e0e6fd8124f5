-- What is usual for a member, each time that plans told it: the band of the pain chart.
create table usual_pain_levels (
    member_id uuid not null,
    source text not null,
    event_id text not null,
    told_at timestamptz not null,
    level real not null check (level between 0 and 10),
    primary key (member_id, source, event_id)
);
create index usual_pain_levels_time on usual_pain_levels (member_id, told_at);

-- Until now it was only kept with a flare.
insert into usual_pain_levels (member_id, source, event_id, told_at, level)
select member_id, 'urn:careloop:messaging:migrations', episode_id::text, started_at, baseline from pain_episodes;
