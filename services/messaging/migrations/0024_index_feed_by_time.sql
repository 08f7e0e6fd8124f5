-- A summary of page ranges (BRIN) does not shrink: once the room of what was pruned is filled again, each range holds old
-- and new, and to find what is old all of the feed would be read.
drop index feed_entered;
create index feed_entered on feed (entered_at);
