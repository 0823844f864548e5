-- Idempotency keys. An attempt in flight has its request's key, so that a retry waits for it instead of making another call;
-- at most one request has a key in flight. idempotency_entries, a projection, has what retries find afterwards.
ALTER TABLE inflight ADD COLUMN idempotency_key bytea;
ALTER TABLE inflight ADD COLUMN idempotency json;
CREATE UNIQUE INDEX inflight_idempotency ON inflight (project_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE idempotency_entries (
    project_id      text COLLATE "C" NOT NULL,
    idempotency_key bytea NOT NULL,
    fingerprint     text COLLATE "C" NOT NULL,
    request_id      text COLLATE "C" NOT NULL,
    received_at_ms  bigint NOT NULL,
    is_kept         boolean NOT NULL,           -- false: its attempts so far cost nothing, and the request goes on
    blob_id         text,                       -- NULL: an error, or an answer that is not kept
    answer_bytes    bigint NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (project_id, idempotency_key)
);
CREATE INDEX idempotency_entries_by_age ON idempotency_entries (project_id, received_at_ms) INCLUDE (answer_bytes);
CREATE INDEX idempotency_entries_by_expiry ON idempotency_entries (expires_at);
-- No event before this has an idempotency key: the projection need not read the whole log.
INSERT INTO projection_checkpoints (projection, position)
    SELECT 'idempotency', min(position) FROM projection_checkpoints HAVING count(*) > 0;
