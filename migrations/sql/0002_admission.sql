-- The life of an attempt: admitted by an API process, claimed by a worker before the provider is called, gone when its
-- outcome has been counted. The sum of hold_nano_usd is what requests in flight may yet cost. See infra/admission.py.

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
    cache_key      bytea,                       -- set while this attempt leads those that ask the same
    hold_nano_usd  bigint NOT NULL CHECK (hold_nano_usd >= 0),
    token_bound    bigint NOT NULL,             -- what the token limit was charged at admission; settled with the true number
    budget_day     date NOT NULL,               -- the UTC day, and by it the month, whose windows are charged
    reply_to       text NOT NULL,               -- where the caller's API process listens
    admitted_at    timestamptz NOT NULL,
    deadline       timestamptz NOT NULL,
    delivery       integer,                     -- of the job; NULL until a worker has claimed the attempt
    claimed_by     text,
    PRIMARY KEY (request_id, attempt)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE UNIQUE INDEX inflight_leaders ON inflight (project_id, cache_key) WHERE cache_key IS NOT NULL;
CREATE INDEX inflight_by_key ON inflight (key_id);
CREATE INDEX inflight_by_project ON inflight (project_id);
CREATE INDEX inflight_by_deadline ON inflight (deadline);

-- Where the rate limits of an account stand: theoretical arrival times (GCRA) in nanoseconds since 1970. The row is also
-- what everybody locks who decides about the account's money or rates, always in the order of (scope, scope_id).
CREATE TABLE meters (
    scope        text COLLATE "C" NOT NULL,     -- key, project
    scope_id     text COLLATE "C" NOT NULL,
    requests_tat bigint NOT NULL DEFAULT 0,
    tokens_tat   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, scope_id)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
