-- Timers are taken in the order of (due_at, kind, key): of many that are due at the same moment, such as the reminders of
-- an evening, the first are found without reading and sorting all. Writers wait while the tree is built.
create index timers_due_in_order on delivery.timers (due_at, kind, key);
drop index delivery.timers_due;
