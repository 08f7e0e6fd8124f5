-- A summary of page ranges (BRIN) does not shrink: once the room of what was pruned is filled again, each range holds old
-- and new, and to find what is old all of the feed would be read. Writers wait while the tree is built.
create index feed_age on feed (entered_at);
drop index feed_entered;
