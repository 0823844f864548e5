-- Usage summed up further still, for those who look at all of it: of a project by day without its keys and models, the same
-- over all projects, and by month of a project and of a key. An overview of many projects and keys reads these few rows.

-- The projector stands still from here to the end: it moves its checkpoints before it folds.
SELECT position FROM projection_checkpoints FOR SHARE;

CREATE TABLE usage_totals (
    project_id           text COLLATE "C" NOT NULL,  -- '': all projects
    starts_at            timestamptz NOT NULL,       -- the first moment of the day
    completed_requests   bigint NOT NULL,
    cached_requests      bigint NOT NULL,
    failed_requests      bigint NOT NULL,
    prompt_tokens        bigint NOT NULL,
    completion_tokens    bigint NOT NULL,
    cached_prompt_tokens bigint NOT NULL,
    cost_nano_usd        numeric NOT NULL, -- over all projects no bigint may be enough
    assumed_nano_usd     numeric NOT NULL, -- over all projects no bigint may be enough
    saved_nano_usd       numeric NOT NULL, -- over all projects no bigint may be enough
    latency_sum_ms       bigint NOT NULL,
    unpriced_requests    bigint NOT NULL,
    estimated_requests   bigint NOT NULL,
    lower_bound_requests bigint NOT NULL,
    cache_write_tokens   bigint NOT NULL,
    reasoning_tokens     bigint NOT NULL,
    rejected_requests    bigint NOT NULL,
    PRIMARY KEY (project_id, starts_at)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX usage_totals_of_projects ON usage_totals (starts_at) WHERE project_id <> '';  -- over all projects

-- Histograms as in usage_durations.
CREATE TABLE usage_total_durations (
    project_id text COLLATE "C" NOT NULL,
    starts_at  timestamptz NOT NULL,
    measure    text COLLATE "C" NOT NULL,
    buckets    integer[] NOT NULL,
    answers    bigint[] NOT NULL,
    PRIMARY KEY (project_id, starts_at, measure)
) WITH (fillfactor = 75, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE usage_months (
    project_id           text COLLATE "C" NOT NULL,
    starts_at            timestamptz NOT NULL,       -- the first moment of the month
    key_id               text COLLATE "C" NOT NULL,  -- '': all keys of the project
    completed_requests   bigint NOT NULL,
    cached_requests      bigint NOT NULL,
    failed_requests      bigint NOT NULL,
    prompt_tokens        bigint NOT NULL,
    completion_tokens    bigint NOT NULL,
    cached_prompt_tokens bigint NOT NULL,
    cost_nano_usd        numeric NOT NULL, -- as in usage_rollups
    assumed_nano_usd     numeric NOT NULL, -- as in usage_rollups
    saved_nano_usd       numeric NOT NULL, -- as in usage_rollups
    latency_sum_ms       bigint NOT NULL,
    unpriced_requests    bigint NOT NULL,
    estimated_requests   bigint NOT NULL,
    lower_bound_requests bigint NOT NULL,
    cache_write_tokens   bigint NOT NULL,
    reasoning_tokens     bigint NOT NULL,
    rejected_requests    bigint NOT NULL,
    PRIMARY KEY (project_id, starts_at, key_id)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX usage_months_of_keys ON usage_months (starts_at) WHERE key_id <> '';      -- over all projects
CREATE INDEX usage_months_of_projects ON usage_months (starts_at) WHERE key_id = '';   -- over all projects

-- As in 0028_row_types.sql.
CREATE TYPE usage_totals_row AS (
    project_id text, starts_at timestamptz,
    completed_requests bigint, cached_requests bigint, failed_requests bigint, prompt_tokens bigint,
    completion_tokens bigint, cached_prompt_tokens bigint, cost_nano_usd numeric, assumed_nano_usd numeric,
    saved_nano_usd numeric, latency_sum_ms bigint, unpriced_requests bigint, estimated_requests bigint,
    lower_bound_requests bigint, cache_write_tokens bigint, reasoning_tokens bigint, rejected_requests bigint
);
CREATE TYPE usage_months_row AS (
    project_id text, starts_at timestamptz, key_id text,
    completed_requests bigint, cached_requests bigint, failed_requests bigint, prompt_tokens bigint,
    completion_tokens bigint, cached_prompt_tokens bigint, cost_nano_usd numeric, assumed_nano_usd numeric,
    saved_nano_usd numeric, latency_sum_ms bigint, unpriced_requests bigint, estimated_requests bigint,
    lower_bound_requests bigint, cache_write_tokens bigint, reasoning_tokens bigint, rejected_requests bigint
);
CREATE TYPE usage_total_durations_group AS (project_id text, starts_at timestamptz, measure text);
CREATE TYPE usage_total_durations_row AS (project_id text, starts_at timestamptz, measure text, buckets text, answers text);

-- Half of a page was room for new versions of its rows, and a quarter is enough: four histograms of a hundred buckets
-- take a page, not two. Pages that are there stay as they are.
ALTER TABLE usage_durations SET (fillfactor = 75);

-- A report of some keys over all projects reads the rows of these keys alone.
CREATE INDEX usage_rollups_by_key ON usage_rollups (key_id, period, starts_at) WHERE key_id <> '';

-- The projector goes on from here. What was before comes from the read model that there is, and is what a fold would make:
-- days add up.
SET LOCAL work_mem = '256MB';

INSERT INTO projection_checkpoints (projection, position)
    SELECT 'totals', position FROM projection_checkpoints WHERE projection = 'rollups';

INSERT INTO usage_totals
    SELECT project_id, starts_at, sum(completed_requests), sum(cached_requests), sum(failed_requests),
           sum(prompt_tokens), sum(completion_tokens), sum(cached_prompt_tokens), sum(cost_nano_usd),
           sum(assumed_nano_usd), sum(saved_nano_usd), sum(latency_sum_ms), sum(unpriced_requests),
           sum(estimated_requests), sum(lower_bound_requests), sum(cache_write_tokens), sum(reasoning_tokens),
           sum(rejected_requests)
    FROM usage_rollups WHERE key_id = '' AND period = 'day' GROUP BY 1, 2 ORDER BY 2;

INSERT INTO usage_months
    SELECT project_id, date_trunc('month', starts_at, 'UTC'), key_id, sum(completed_requests), sum(cached_requests),
           sum(failed_requests), sum(prompt_tokens), sum(completion_tokens), sum(cached_prompt_tokens),
           sum(cost_nano_usd), sum(assumed_nano_usd), sum(saved_nano_usd), sum(latency_sum_ms), sum(unpriced_requests),
           sum(estimated_requests), sum(lower_bound_requests), sum(cache_write_tokens), sum(reasoning_tokens),
           sum(rejected_requests)
    FROM usage_rollups WHERE period = 'day' AND project_id <> '' GROUP BY 1, 2, 3 ORDER BY 2;

INSERT INTO usage_total_durations
    SELECT project_id, starts_at, measure, array_agg(bucket ORDER BY bucket), array_agg(answers ORDER BY bucket)
    FROM (
        SELECT project_id, starts_at, measure, each.bucket, sum(each.answers)::bigint AS answers
        FROM usage_durations, unnest(buckets, answers) AS each (bucket, answers)
        WHERE key_id = '' AND period = 'day' GROUP BY 1, 2, 3, 4
    ) AS counted
    GROUP BY 1, 2, 3 ORDER BY 2;

-- A project in quarantine has been folded as far as its roll-ups are.
UPDATE quarantined_projects
    SET folded = (folded::jsonb || jsonb_build_object('totals', folded -> 'rollups'))::json
    WHERE folded -> 'rollups' IS NOT NULL;
