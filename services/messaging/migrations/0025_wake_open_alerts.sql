-- Putting an alert off and giving it back at once left it open and asleep: in nobody's queue, and its escalation was
-- dropped. Such an alert asks again: it is in the queue, and who is next in line is asked as soon as its time is over.
insert into delivery.timers (kind, key, member_id, due_at, payload, cause)
select 'alert.escalation', alert_id::text, member_id, respond_by, '{}',
    jsonb_build_object('source', cause_source, 'id', cause_id, 'chain', cause_chain, 'traceparent', cause_traceparent)
from alerts
where status = 'open' and snoozed_until is not null
on conflict (kind, key) do nothing;
update alerts set snoozed_until = null where status = 'open' and snoozed_until is not null;
alter table alerts add constraint alerts_open_are_awake check (status <> 'open' or snoozed_until is null);
