-- Which figures are no more than estimated, and which costs are without something that has no known price.
ALTER TABLE requests ADD COLUMN tokens_estimated boolean NOT NULL DEFAULT false;
ALTER TABLE requests ADD COLUMN cost_is_lower_bound boolean NOT NULL DEFAULT false;
ALTER TABLE usage_daily ADD COLUMN estimated_requests bigint NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN lower_bound_requests bigint NOT NULL DEFAULT 0;
