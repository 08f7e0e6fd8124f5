-- Which command did it: one that comes again, because its answer was lost or its process slept, changes nothing.
alter table alert_actions add column command_id text;
