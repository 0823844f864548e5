-- Finds the answer that an item came with, by the item's id. A request may name an item under a shared credential only if
-- the item is its own project's.
CREATE INDEX events_by_item ON events USING gin (((data -> 'item_ids')::jsonb))
    WHERE type = 'RequestCompleted' AND (data -> 'item_ids') IS NOT NULL;
