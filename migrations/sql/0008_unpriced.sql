-- Answers whose cost nobody knows, so that no sum shows them as if they had cost nothing.
ALTER TABLE usage_daily ADD COLUMN unpriced_requests bigint NOT NULL DEFAULT 0;
