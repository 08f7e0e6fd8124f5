-- A summary of page ranges (BRIN) does not shrink: once the room of what was forgotten is filled again, each range holds
-- old and new, and to find what is old all of the inbox would be read. Writers wait while the tree is built.
create index inbox_taken on delivery.inbox (taken_at);
drop index delivery.inbox_taken_at;
