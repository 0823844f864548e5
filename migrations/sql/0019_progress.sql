-- How far attempts are, as their workers report: what is assumed of one whose worker dies.
ALTER TABLE inflight ADD COLUMN assumed_nano_usd bigint;    -- the most that it has cost so far; NULL: not known, its hold
