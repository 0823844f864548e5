-- Attempts in flight. An API process inserts a row at admission, a worker claims it before it calls the provider, and the
-- projector deletes it when it has counted the outcome. The sum of hold_nano_usd is the most that requests in flight may
-- still cost. See infra/admission.py.

CREATE TABLE inflight (
    request_id     text COLLATE "C" NOT NULL,
    attempt        integer NOT NULL CHECK (attempt >= 1),
    project_id     text COLLATE "C" NOT NULL,
    key_id         text COLLATE "C" NOT NULL,
    operation      text NOT NULL,
    model          text NOT NULL,
    provider       text NOT NULL,
    upstream_model text NOT NULL,
    metadata       json,
    cache_key      bytea,                       -- set while identical requests follow this attempt
    hold_nano_usd  bigint NOT NULL CHECK (hold_nano_usd >= 0),
    token_bound    bigint NOT NULL,             -- charged to the token limit at admission, corrected at settlement
    budget_day     date NOT NULL,               -- the UTC day whose daily and monthly windows are charged
    reply_to       text NOT NULL,               -- the subject on which the caller's API process listens
    admitted_at    timestamptz NOT NULL,
    deadline       timestamptz NOT NULL,
    delivery       integer,                     -- the job's delivery; NULL until a worker has claimed the attempt
    claimed_by     text,
    PRIMARY KEY (request_id, attempt)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE UNIQUE INDEX inflight_leaders ON inflight (project_id, cache_key) WHERE cache_key IS NOT NULL;
CREATE INDEX inflight_by_key ON inflight (key_id);
CREATE INDEX inflight_by_project ON inflight (project_id);
CREATE INDEX inflight_by_deadline ON inflight (deadline);

-- The state of an account's rate limits: theoretical arrival times (GCRA) in nanoseconds since 1970. Every transaction that
-- decides about the account's money or rates locks this row; several rows in the order of (scope, scope_id).
CREATE TABLE meters (
    scope        text COLLATE "C" NOT NULL,     -- key, project
    scope_id     text COLLATE "C" NOT NULL,
    requests_tat bigint NOT NULL DEFAULT 0,
    tokens_tat   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, scope_id)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
