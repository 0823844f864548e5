-- What is read, folded from the log by the projector.

CREATE TABLE projection_checkpoints (
    projection text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL                  -- every event up to here is in the tables
) WITH (fillfactor = 10);

CREATE TABLE cache_entries (
    project_id text COLLATE "C" NOT NULL,
    cache_key  bytea NOT NULL,
    request_id text COLLATE "C" NOT NULL,       -- whose answer it is
    blob_id    text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, cache_key)
);
CREATE INDEX cache_entries_by_expiry ON cache_entries (expires_at);
