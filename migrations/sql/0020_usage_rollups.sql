-- Usage summed up further than usage_daily is: by hour and by day, without the key or with nothing but the key, and once
-- more over all projects. Reports over many projects and keys read these few rows.

-- The projector stands still from here to the end: it moves its checkpoints before it folds.
SELECT position FROM projection_checkpoints FOR SHARE;

-- Days are filled in from the one, hours from the other.
DO $$ BEGIN
    IF (SELECT position FROM projection_checkpoints WHERE projection = 'usage')
       <> (SELECT position FROM projection_checkpoints WHERE projection = 'requests') THEN
        RAISE EXCEPTION 'the read models `usage` and `requests` have not come equally far'
            USING HINT = 'Let the projector fold both to the end of the log, and migrate then.';
    END IF;
END $$;

ALTER TABLE usage_daily
    ADD COLUMN cache_write_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN reasoning_tokens   bigint NOT NULL DEFAULT 0,
    ADD COLUMN rejected_requests  bigint NOT NULL DEFAULT 0;
CREATE INDEX usage_daily_of_key ON usage_daily (key_id, day);
CREATE INDEX usage_daily_by_day ON usage_daily (day);

CREATE TABLE usage_rollups (
    project_id           text COLLATE "C" NOT NULL,  -- '': all projects
    period               text COLLATE "C" NOT NULL,  -- hour, day
    starts_at            timestamptz NOT NULL,
    key_id               text COLLATE "C" NOT NULL,  -- '': all keys; else operation, provider and model are ''
    operation            text COLLATE "C" NOT NULL,
    provider             text COLLATE "C" NOT NULL,
    model                text COLLATE "C" NOT NULL,
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
    PRIMARY KEY (project_id, period, starts_at, key_id, operation, provider, model)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Over all projects: those by key, and those by what is asked of whom.
CREATE INDEX usage_rollups_of_keys ON usage_rollups (period, starts_at) WHERE key_id <> '';
CREATE INDEX usage_rollups_of_projects ON usage_rollups (period, starts_at) WHERE key_id = '' AND project_id <> '';
-- Hours are kept of the same days as days are: without this, the rows of a few days are taken for ten times as many, and all
-- of the table is read.
CREATE STATISTICS usage_rollups_times (mcv) ON period, starts_at FROM usage_rollups;
ALTER STATISTICS usage_rollups_times SET STATISTICS 1000;

-- Histograms of two durations: of answers, and of what came before their first token. The buckets of domain/latency.py,
-- ascending, each with its number of answers. A batch changes hundreds of buckets, but a few rows.
CREATE TABLE usage_durations (
    project_id text COLLATE "C" NOT NULL,            -- as in usage_rollups, and so are the others
    period     text COLLATE "C" NOT NULL,
    starts_at  timestamptz NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    operation  text COLLATE "C" NOT NULL,
    provider   text COLLATE "C" NOT NULL,
    model      text COLLATE "C" NOT NULL,
    measure    text COLLATE "C" NOT NULL,            -- answer, first_token
    buckets    integer[] NOT NULL,
    answers    bigint[] NOT NULL,
    PRIMARY KEY (project_id, period, starts_at, key_id, operation, provider, model, measure)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- `usage_latency`, which had the first of them by day and key, is folded no more. Processes of the release before read it
-- until they are replaced.

CREATE TABLE usage_errors (
    project_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    provider   text COLLATE "C" NOT NULL,
    model      text COLLATE "C" NOT NULL,
    code       text COLLATE "C" NOT NULL,
    requests   bigint NOT NULL,
    PRIMARY KEY (project_id, day, key_id, provider, model, code)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX usage_errors_by_day ON usage_errors (day);

ALTER TABLE requests ADD COLUMN first_token_ms bigint;
-- Few requests fail, and who looks for them shall not read all others.
CREATE INDEX requests_failed ON requests (request_id) WHERE status IN ('failed', 'rejected');
CREATE INDEX requests_by_error ON requests (error_code, request_id) WHERE error_code IS NOT NULL;

-- The projector goes on from here. What was before comes from the read models that there are: by day it is exact; by
-- hour, a request whose events are in two hours counts in its first. A rebuild makes that exact too.
INSERT INTO projection_checkpoints (projection, position)
    SELECT 'rollups', position FROM projection_checkpoints WHERE projection = 'usage';

INSERT INTO usage_rollups
    SELECT coalesce(project_id, ''), 'day', day::timestamp AT TIME ZONE 'UTC', coalesce(key_id, ''),
           coalesce(operation, ''), coalesce(provider, ''), coalesce(model, ''), sum(completed_requests),
           sum(cached_requests), sum(failed_requests), sum(prompt_tokens), sum(completion_tokens),
           sum(cached_prompt_tokens), sum(cost_nano_usd), sum(assumed_nano_usd), sum(saved_nano_usd),
           sum(latency_sum_ms), sum(unpriced_requests), sum(estimated_requests), sum(lower_bound_requests), 0, 0, 0
    FROM usage_daily
    GROUP BY GROUPING SETS ((project_id, day, operation, provider, model), (project_id, day, key_id),
                            (day, operation, provider, model));

CREATE TEMPORARY TABLE past_requests ON COMMIT DROP AS
    SELECT project_id, date_trunc('hour', at, 'UTC') AS hour, date_trunc('day', at, 'UTC') AS day, key_id, operation,
           provider, model, status, prompt_tokens, completion_tokens, cached_prompt_tokens, cost_nano_usd,
           assumed_nano_usd, saved_nano_usd, tokens_estimated, cost_is_lower_bound, error_code,
           coalesce(latency_ms, 0) AS latency_ms, status IN ('completed', 'cached') AS is_answered,
           greatest(0, length(ltrim(least(greatest(coalesce(latency_ms, 0), 0), 604800000)::bit(40)::text, '0')) - 6)
               AS exponent
    FROM requests;

INSERT INTO usage_rollups
    SELECT coalesce(project_id, ''), 'hour', hour, coalesce(key_id, ''), coalesce(operation, ''),
           coalesce(provider, ''), coalesce(model, ''), count(*) FILTER (WHERE status = 'completed'),
           count(*) FILTER (WHERE status = 'cached'), count(*) FILTER (WHERE status = 'failed'), sum(prompt_tokens),
           sum(completion_tokens), sum(cached_prompt_tokens), coalesce(sum(cost_nano_usd), 0), sum(assumed_nano_usd),
           sum(saved_nano_usd), coalesce(sum(latency_ms) FILTER (WHERE is_answered), 0),
           count(*) FILTER (WHERE status = 'completed' AND cost_nano_usd IS NULL),
           count(*) FILTER (WHERE tokens_estimated), count(*) FILTER (WHERE cost_is_lower_bound), 0, 0,
           count(*) FILTER (WHERE status = 'rejected')
    FROM past_requests
    GROUP BY GROUPING SETS ((project_id, hour, operation, provider, model), (project_id, hour, key_id),
                            (hour, operation, provider, model));

-- usage_daily did not count what budgets refused: its days, and their sums, get that from the requests too.
INSERT INTO usage_daily (project_id, day, key_id, operation, provider, model, completed_requests, cached_requests,
        failed_requests, prompt_tokens, completion_tokens, cached_prompt_tokens, cost_nano_usd, assumed_nano_usd,
        saved_nano_usd, latency_sum_ms, unpriced_requests, estimated_requests, lower_bound_requests, rejected_requests)
    SELECT project_id, (day AT TIME ZONE 'UTC')::date, key_id, operation, provider, model, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
           0, count(*)
    FROM past_requests WHERE status = 'rejected' GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (project_id, day, key_id, operation, provider, model)
        DO UPDATE SET rejected_requests = EXCLUDED.rejected_requests;

INSERT INTO usage_rollups
    SELECT coalesce(project_id, ''), 'day', day, coalesce(key_id, ''), coalesce(operation, ''), coalesce(provider, ''),
           coalesce(model, ''), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, count(*)
    FROM past_requests WHERE status = 'rejected'
    GROUP BY GROUPING SETS ((project_id, day, operation, provider, model), (project_id, day, key_id),
                            (day, operation, provider, model))
    ON CONFLICT (project_id, period, starts_at, key_id, operation, provider, model)
        DO UPDATE SET rejected_requests = EXCLUDED.rejected_requests;

INSERT INTO usage_durations
    SELECT project_id, period, starts_at, key_id, operation, provider, model, 'answer', array_agg(bucket ORDER BY bucket),
           array_agg(answers ORDER BY bucket)
    FROM (
    SELECT coalesce(project_id, ''), CASE WHEN GROUPING(hour) = 0 THEN 'hour' ELSE 'day' END, coalesce(hour, day),
           coalesce(key_id, ''), coalesce(operation, ''), coalesce(provider, ''), coalesce(model, ''), bucket,
           count(*)
    FROM (SELECT *, exponent * 32 + (greatest(latency_ms, 0) >> exponent) AS bucket FROM past_requests WHERE is_answered)
         AS answered
    GROUP BY GROUPING SETS ((project_id, hour, operation, provider, model, bucket), (project_id, hour, key_id, bucket),
                            (hour, operation, provider, model, bucket), (project_id, day, operation, provider, model, bucket),
                            (project_id, day, key_id, bucket), (day, operation, provider, model, bucket))
    ) AS counted (project_id, period, starts_at, key_id, operation, provider, model, bucket, answers)
    GROUP BY 1, 2, 3, 4, 5, 6, 7;

INSERT INTO usage_errors
    SELECT project_id, day::date, key_id, provider, model, error_code, count(*) FROM past_requests
    WHERE status IN ('failed', 'rejected') AND error_code IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6;
