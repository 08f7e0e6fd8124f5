-- Alerts that were taken on before there was a follow-up get theirs, with the times of messaging.follow-up version 1.
insert into delivery.timers (kind, key, member_id, due_at, payload, cause)
select 'alert.follow-up', alert_id::text, member_id,
    acknowledged_at + case priority
        when 'emergency' then interval '30 minutes'
        when 'urgent' then interval '4 hours'
        when 'soon' then interval '3 days'
        else interval '14 days'
    end,
    '{}',
    jsonb_build_object('source', cause_source, 'id', cause_id, 'chain', cause_chain, 'traceparent', cause_traceparent)
from alerts
where status = 'acknowledged' and snoozed_until is null
on conflict (kind, key) do nothing;
