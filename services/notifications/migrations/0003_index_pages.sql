-- Builds an index: who writes notifications waits until it is built.
-- Pages that are not sent yet are found without reading what else is due: of reminders there may be very many.
create index notifications_pages on notifications (planned_at)
    where page_role is not null and state in ('planned', 'sending');
