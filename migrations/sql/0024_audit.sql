-- What the audit of a log needs: its rare events, and the verifications that an operator has asked for.

-- Not of the log: what was asked of the projector, and how far it is. See projections/audit_runs.py.
CREATE TABLE audit_runs (
    run_id     text COLLATE "C" PRIMARY KEY,
    kind       text NOT NULL,
    asked_at   timestamptz NOT NULL,
    started_at timestamptz,                     -- NULL: it waits for its turn
    beat_at    timestamptz,                     -- when its process was last seen alive
    ended_at   timestamptz,
    done       bigint NOT NULL DEFAULT 0,       -- events, of `total`
    total      bigint NOT NULL DEFAULT 0,
    verdict    text,                            -- once it has ended
    lines      text[] NOT NULL DEFAULT '{}'     -- what it found, in words
);
CREATE UNIQUE INDEX audit_runs_open ON audit_runs (kind) WHERE ended_at IS NULL;
