-- Rows as the API processes and the workers hand them over: see migrations/sql/0028_row_types.sql. A type is never changed.

-- `key_place`, `project_place`: where the request's own are among the accounts of its batch. `first_identical`: the number
-- of the first request of the batch with the same project and cache key; else its own. The others: see `admit`.
CREATE TYPE admission_account AS (scope text, id text);
CREATE TYPE admission_row AS (
    key_place integer, project_place integer, request_id text, operation text, model text, provider text,
    upstream_model text, metadata text, cache_key bytea, min_created_at timestamptz, first_identical integer, hold bigint,
    min_hold bigint, token_bound bigint, accepts_lower_hold boolean, is_counted boolean, reply_to text,
    admitted_at timestamptz, deadline timestamptz, served_data text, served_digest bytea, key_version integer,
    uses_installation boolean, is_last_in_line boolean, idempotency_key bytea, idempotency text, said text
);
-- `commit`: the number of an event's or a blob's commit in its batch, from 1.
CREATE TYPE appended_event AS (
    commit integer, stream text, version integer, type text, project_id text, at timestamptz, data text, digest bytea
);
CREATE TYPE appended_blob AS (commit integer, blob_id text, project_id text, body bytea, expires_at timestamptz);
