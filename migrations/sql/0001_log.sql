-- The event log: the only system of record. domain/events.py has the events, infra/event_log.py uses these tables.

CREATE TABLE events (
    position   bigint PRIMARY KEY,              -- gapless, in commit order
    stream     text COLLATE "C" NOT NULL,
    version    integer NOT NULL CHECK (version >= 1),
    type       text COLLATE "C" NOT NULL,
    project_id text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    data       json NOT NULL,                   -- json, not jsonb: stored byte for byte
    digest     bytea NOT NULL,                  -- SHA-256 of the envelope and the data, from the appender
    chain      bytea,                           -- on the last event of each batch: the head's digest after the batch
    UNIQUE (stream, version)
);
CREATE INDEX events_of_project ON events (project_id, position);
CREATE INDEX events_by_time ON events USING brin (at);

-- One row. Its lock serialises appends, so position n is never visible before position n - 1.
CREATE TABLE log_head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL,
    digest   bytea NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
INSERT INTO log_head (position, digest) VALUES (0, sha256(''));

CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never rewritten: % on % refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER events_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();

-- Responses and large prompts, compressed and encrypted by the writer. Events name them by id.
CREATE TABLE blobs (
    blob_id    text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL,
    body       bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
ALTER TABLE blobs ALTER COLUMN body SET STORAGE EXTERNAL;   -- already compressed
CREATE INDEX blobs_by_expiry ON blobs (expires_at);
