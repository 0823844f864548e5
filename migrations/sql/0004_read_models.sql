-- The read models, which the projector folds from the log.

CREATE TABLE projection_checkpoints (
    projection text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL                  -- every event up to this one is in the tables
) WITH (fillfactor = 10);

CREATE TABLE cache_entries (
    project_id text COLLATE "C" NOT NULL,
    cache_key  bytea NOT NULL,
    request_id text COLLATE "C" NOT NULL,       -- the request that got the response from a provider
    blob_id    text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, cache_key)
);
CREATE INDEX cache_entries_by_expiry ON cache_entries (expires_at);

-- By window: the cost of requests, and the assumed cost of attempts whose outcome is unknown.
CREATE TABLE budget_balances (
    scope            text NOT NULL,             -- key, project
    scope_id         text COLLATE "C" NOT NULL,
    period           text NOT NULL,             -- day, month
    starts_on        date NOT NULL,
    project_id       text COLLATE "C" NOT NULL,
    spent_nano_usd   bigint NOT NULL,
    assumed_nano_usd bigint NOT NULL,
    overage_nano_usd bigint NOT NULL,           -- by how much responses cost more than their holds
    PRIMARY KEY (scope, scope_id, period, starts_on)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- By UTC day of the event. Responses from the cache count with their tokens, and cost nothing.
CREATE TABLE usage_daily (
    project_id           text COLLATE "C" NOT NULL,
    day                  date NOT NULL,
    key_id               text COLLATE "C" NOT NULL,
    operation            text COLLATE "C" NOT NULL,
    provider             text COLLATE "C" NOT NULL,
    model                text COLLATE "C" NOT NULL,
    completed_requests   bigint NOT NULL,
    cached_requests      bigint NOT NULL,
    failed_requests      bigint NOT NULL,
    prompt_tokens        bigint NOT NULL,
    completion_tokens    bigint NOT NULL,
    cached_prompt_tokens bigint NOT NULL,
    cost_nano_usd        bigint NOT NULL,
    assumed_nano_usd     bigint NOT NULL,
    saved_nano_usd       bigint NOT NULL,
    latency_sum_ms       bigint NOT NULL,
    PRIMARY KEY (project_id, day, key_id, operation, provider, model)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Histograms of latency: the number of responses in each bucket of domain/latency.py.
CREATE TABLE usage_latency (
    project_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    bucket     integer NOT NULL,
    answers    bigint NOT NULL,
    PRIMARY KEY (project_id, day, key_id, bucket)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE requests (
    request_id           text COLLATE "C" PRIMARY KEY,   -- sorts by time
    project_id           text COLLATE "C" NOT NULL,
    key_id               text COLLATE "C" NOT NULL,
    at                   timestamptz NOT NULL,
    operation            text NOT NULL,
    model                text NOT NULL,
    provider             text NOT NULL,
    status               text NOT NULL,                  -- running, completed, cached, failed, rejected
    attempts             integer NOT NULL,
    latency_ms           bigint,
    finish_reason        text,
    prompt_tokens        bigint NOT NULL,
    completion_tokens    bigint NOT NULL,
    cached_prompt_tokens bigint NOT NULL,
    cost_nano_usd        bigint,                         -- NULL: unknown, or nothing was charged
    assumed_nano_usd     bigint NOT NULL,
    saved_nano_usd       bigint NOT NULL,
    price                json,
    error_code           text,
    error_message        text,
    origin_request_id    text,
    metadata             json
);
CREATE INDEX requests_of_project ON requests (project_id, request_id);
CREATE INDEX requests_of_key ON requests (key_id, request_id);
