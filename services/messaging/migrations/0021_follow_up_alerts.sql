-- A row is held by who raises an alert of this kind about this member, or must know that nobody else does now: an alert
-- that does not exist yet cannot be locked itself.
create table alert_locks (
    member_id uuid not null,
    kind text not null,
    primary key (member_id, kind)
);

alter table alert_actions drop constraint alert_actions_action_check;
alter table alert_actions add constraint alert_actions_action_check check (action in
    ('raised', 'repeated', 'acknowledged', 'undone', 'snoozed', 'woke', 'reminded', 'handed-over', 'escalated', 'settled',
     'resolved'));
