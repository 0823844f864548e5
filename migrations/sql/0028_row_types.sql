-- Rows as the projector hands them over: an array of one of these types is the parameter of a statement, where an array for
-- each column costs the projector a multiple. A type is never changed: a release that writes other columns brings
-- one of its own, so that the projector of the release before goes on beside it.

CREATE TYPE budget_balances_row AS (
    scope text, scope_id text, period text, starts_on date, project_id text, spent_nano_usd bigint,
    assumed_nano_usd bigint, overage_nano_usd bigint
);
CREATE TYPE usage_daily_row AS (
    project_id text, day date, key_id text, operation text, provider text, model text, completed_requests bigint,
    cached_requests bigint, failed_requests bigint, prompt_tokens bigint, completion_tokens bigint,
    cached_prompt_tokens bigint, cost_nano_usd bigint, assumed_nano_usd bigint, saved_nano_usd bigint,
    latency_sum_ms bigint, unpriced_requests bigint, estimated_requests bigint, lower_bound_requests bigint,
    cache_write_tokens bigint, reasoning_tokens bigint, rejected_requests bigint
);
CREATE TYPE usage_rollups_row AS (
    project_id text, period text, starts_at timestamptz, key_id text, operation text, provider text, model text,
    completed_requests bigint, cached_requests bigint, failed_requests bigint, prompt_tokens bigint,
    completion_tokens bigint, cached_prompt_tokens bigint, cost_nano_usd numeric, assumed_nano_usd numeric,
    saved_nano_usd numeric, latency_sum_ms bigint, unpriced_requests bigint, estimated_requests bigint,
    lower_bound_requests bigint, cache_write_tokens bigint, reasoning_tokens bigint, rejected_requests bigint
);
CREATE TYPE usage_durations_group AS (
    project_id text, period text, starts_at timestamptz, key_id text, operation text, provider text, model text,
    measure text
);
CREATE TYPE usage_durations_row AS (
    project_id text, period text, starts_at timestamptz, key_id text, operation text, provider text, model text,
    measure text, buckets text, answers text
);
CREATE TYPE usage_errors_row AS (
    project_id text, day date, key_id text, provider text, model text, code text, requests bigint
);
CREATE TYPE usage_attributes_row AS (
    project_id text, name text, day date, number integer, key_id text, completed_requests bigint,
    cached_requests bigint, failed_requests bigint, prompt_tokens bigint, completion_tokens bigint,
    cost_nano_usd bigint, assumed_nano_usd bigint, saved_nano_usd bigint, unpriced_requests bigint,
    estimated_requests bigint, lower_bound_requests bigint
);
CREATE TYPE usage_attribute_values_row AS (
    project_id text, name text, day date, number integer, digest bytea, value text
);
CREATE TYPE usage_refusals_row AS (
    project_id text, day date, key_id text, window_name text, requests bigint, last_position bigint,
    last_at timestamptz, last_request_id text, limit_nano_usd bigint, taken_nano_usd bigint, held_nano_usd bigint,
    asked_nano_usd bigint
);
CREATE TYPE requests_row AS (
    request_id text, project_id text, key_id text, at timestamptz, operation text, model text, provider text,
    status text, attempts integer, latency_ms bigint, finish_reason text, prompt_tokens bigint,
    completion_tokens bigint, cached_prompt_tokens bigint, cost_nano_usd bigint, assumed_nano_usd bigint,
    saved_nano_usd bigint, tokens_estimated boolean, cost_is_lower_bound boolean, price text, error_code text,
    error_message text, origin_request_id text, metadata text, session text, agent text, client text,
    first_token_ms bigint
);
CREATE TYPE cache_entries_row AS (
    project_id text, cache_key bytea, request_id text, blob_id text, created_at timestamptz, expires_at timestamptz
);
CREATE TYPE idempotency_entries_row AS (
    project_id text, idempotency_key bytea, fingerprint text, request_id text, received_at_ms bigint, is_kept boolean,
    blob_id text, answer_bytes bigint, expires_at timestamptz
);
CREATE TYPE idempotency_entries_end AS (
    project_id text, idempotency_key bytea, request_id text, is_freed boolean
);
CREATE TYPE jobs_row AS (
    job_id text, project_id text, key_id text, batch_id text, custom_id text, operation text, model text, status text,
    accepted_at timestamptz, deadline timestamptz, webhook_url text
);
CREATE TYPE jobs_change AS (
    job_id text, status text, started_at timestamptz, ended_at timestamptz, runs integer, request_id text,
    result_blob_id text, result_expires_at timestamptz, error_code text, error_message text, error_status integer,
    told text, told_status integer
);
CREATE TYPE ended_attempt AS (
    request_id text, attempt integer, key_id text, tokens bigint
);
