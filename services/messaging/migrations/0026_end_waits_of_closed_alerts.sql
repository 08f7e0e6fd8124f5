-- Who closed the alert about an unanswered message without writing left the wait as it was, so that no later message of
-- the member ever waited. What they have written since the alert asked waits from when it was sent, with the time of
-- messaging.first-response version 1.
with ended as (
    select distinct on (c.member_id) c.member_id, m.message_id, m.sent_at, jsonb_build_object(
        'source', a.cause_source, 'id', a.cause_id, 'chain', a.cause_chain, 'traceparent', a.cause_traceparent
    ) as cause
    from conversations c
        join alerts a on a.member_id = c.member_id and a.kind = 'unanswered-message'
            and a.last_raised_at >= c.awaiting_since
        left join messages m on m.member_id = c.member_id and m.sender_role = 'member' and m.sent_at > a.last_raised_at
    where not exists (
            select from alerts o
            where o.member_id = c.member_id and o.kind = 'unanswered-message' and o.status <> 'resolved'
        )
        and not exists (
            select from delivery.timers t where t.kind = 'conversation.first-response' and t.key = c.member_id::text
        )
    order by c.member_id, a.last_raised_at desc, m.number
), moved as (
    update conversations c set awaiting_message_id = e.message_id, awaiting_since = e.sent_at
    from ended e where e.member_id = c.member_id
)
insert into delivery.timers (kind, key, member_id, due_at, payload, cause)
select 'conversation.first-response', member_id::text, member_id, sent_at + interval '1 day', '{}', cause
from ended where sent_at is not null
on conflict (kind, key) do nothing;
