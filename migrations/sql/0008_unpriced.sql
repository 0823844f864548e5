-- The number of responses whose cost is unknown, so that no sum shows them as free.
ALTER TABLE usage_daily ADD COLUMN unpriced_requests bigint NOT NULL DEFAULT 0;
