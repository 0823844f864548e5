-- What had come of a stream when its worker last reported it: JSON, as `SeenStream` in infra/admission.py has it. It is what
-- is known of an attempt whose worker dies.
ALTER TABLE inflight ADD COLUMN seen json;

-- The sweep looks for the bodies that are kept. An entry without one stays until it expires, and is of no interest to it.
CREATE INDEX idempotency_entries_kept ON idempotency_entries (project_id, received_at_ms DESC, idempotency_key)
    INCLUDE (answer_bytes, blob_id) WHERE blob_id IS NOT NULL;
DROP INDEX idempotency_entries_by_age;
