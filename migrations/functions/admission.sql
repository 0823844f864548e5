-- Admission of requests, a batch of them in one transaction: `admit`, at the end, calls the rest. See infra/admission.py.
-- `accounts` and `decisions` are records of arrays: one element for each account, and for each request of the batch.

-- Refuse the requests whose key has changed since they were planned (stale) or has no request left in this minute
-- (rate_limit). Reads no table. `retries_ns`: how long until a rate limit admits the request.
CREATE OR REPLACE FUNCTION check_keys(
    p_accounts record, p_keys integer[], p_key_versions integer[], p_is_counted boolean[],
    OUT outcomes text[], OUT retries_ns bigint[], OUT request_tats bigint[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_limits      CONSTANT bigint[] := p_accounts.request_limits;
    v_versions    CONSTANT integer[] := p_accounts.versions;
    v_ends_at     CONSTANT timestamptz[] := p_accounts.ends_at;
    v_key         integer;
    v_interval_ns bigint;
    v_tat         bigint;
    v_wait_ns     bigint;
BEGIN
    outcomes := array_fill(NULL::text, ARRAY[cardinality(p_keys)]);
    retries_ns := array_fill(NULL::bigint, ARRAY[cardinality(p_keys)]);
    request_tats := p_accounts.request_tats;
    FOR i IN 1 .. cardinality(p_keys) LOOP
        v_key := p_keys[i];
        IF v_ends_at[v_key] <= p_accounts.decided_at OR p_key_versions[i] <> v_versions[v_key] THEN
            outcomes[i] := 'stale';
        ELSIF v_limits[v_key] IS NOT NULL AND NOT p_is_counted[i] THEN
            v_interval_ns := emission_interval_ns(v_limits[v_key]);
            v_tat := greatest(request_tats[v_key], p_accounts.now_ns) + v_interval_ns;
            v_wait_ns := v_tat - p_accounts.now_ns - v_interval_ns * v_limits[v_key];
            IF v_wait_ns > 0 THEN
                outcomes[i] := 'rate_limit';
                retries_ns[i] := v_wait_ns;
            ELSE
                request_tats[v_key] := v_tat;
            END IF;
        END IF;
    END LOOP;
END $$;

-- Decide the requests without an outcome, in their order, each as if those admitted before it were in flight by now.
-- Reads no table. `cache_keys`: NULL now for a response that may not be shared. `batch_holds`: what the batch holds, for
-- each account.
CREATE OR REPLACE FUNCTION decide(
    p_accounts record, p_requests text[], p_keys integer[], p_projects integer[], p_first_identical integer[],
    p_holds bigint[], p_min_holds bigint[], p_accepts_lower_hold boolean[], p_token_bounds bigint[],
    p_uses_installation boolean[], p_is_last_in_line boolean[],
    INOUT outcomes text[], INOUT origins text[], INOUT retries_ns bigint[], INOUT request_tats bigint[],
    INOUT cache_keys bytea[],
    OUT holds bigint[], OUT batch_holds bigint[], OUT token_tats bigint[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_unspent_of   CONSTANT bigint[] := p_accounts.unspent;
    v_free_of      CONSTANT bigint[] := p_accounts.free;
    v_installation_unspent CONSTANT bigint[] := p_accounts.installation_unspent;
    v_installation_free    CONSTANT bigint[] := p_accounts.installation_free;
    v_token_limits CONSTANT bigint[] := p_accounts.token_limits;
    v_concurrency  CONSTANT bigint[] := p_accounts.concurrency_limits;
    v_in_flight    bigint[] := p_accounts.requests_in_flight;
    v_leaders      integer[] := array_fill(0, ARRAY[cardinality(p_keys)]);      -- by p_first_identical
    v_key          integer;
    v_project      integer;
    v_unspent      bigint;                                  -- of the tightest window that applies; NULL: none applies
    v_free         bigint;
    v_interval_ns  bigint;
    v_tat          bigint;
    v_wait_ns      bigint;
BEGIN
    holds := array_fill(0::bigint, ARRAY[cardinality(p_keys)]);
    batch_holds := array_fill(0::bigint, ARRAY[cardinality(p_accounts.has_limits)]);
    token_tats := p_accounts.token_tats;
    FOR i IN 1 .. cardinality(p_keys) LOOP
        CONTINUE WHEN outcomes[i] IS NOT NULL;
        IF v_leaders[p_first_identical[i]] > 0 THEN         -- an identical request, earlier in this batch
            outcomes[i] := 'coalesced';
            origins[i] := p_requests[v_leaders[p_first_identical[i]]];
            CONTINUE;
        END IF;
        v_key := p_keys[i];
        v_project := p_projects[i];
        v_unspent := least(v_unspent_of[v_key], v_unspent_of[v_project],
                           CASE WHEN p_uses_installation[i] THEN v_installation_unspent[v_project] END);
        v_free := least(v_free_of[v_key] - batch_holds[v_key], v_free_of[v_project] - batch_holds[v_project],
                        CASE WHEN p_uses_installation[i]
                             THEN v_installation_free[v_project] - batch_holds[v_project] END);
        holds[i] := coalesce(p_holds[i], 0);
        IF v_free IS NOT NULL AND p_holds[i] IS NULL THEN
            outcomes[i] := 'unpriced';
        ELSIF p_min_holds[i] > v_unspent THEN
            outcomes[i] := 'budget_spent';
        ELSIF holds[i] > v_free
                AND (p_min_holds[i] > v_free OR (v_free < v_unspent AND NOT p_accepts_lower_hold[i])) THEN
            outcomes[i] := 'budget_held';
        ELSIF v_in_flight[v_key] >= v_concurrency[v_key] THEN
            outcomes[i] := 'concurrency';
        ELSIF p_is_last_in_line[i] AND (v_free IS NOT NULL OR v_concurrency[v_key] IS NOT NULL) THEN
            outcomes[i] := 'queued';
        END IF;
        CONTINUE WHEN outcomes[i] IS NOT NULL;
        IF v_token_limits[v_key] IS NOT NULL THEN
            v_interval_ns := emission_interval_ns(v_token_limits[v_key]);
            v_tat := greatest(token_tats[v_key], p_accounts.now_ns)
                     + v_interval_ns * least(p_token_bounds[i], 2 * v_token_limits[v_key]);
            v_wait_ns := v_tat - p_accounts.now_ns - v_interval_ns * v_token_limits[v_key];
            IF v_wait_ns > 0 THEN
                outcomes[i] := 'token_limit';
                retries_ns[i] := v_wait_ns;
                CONTINUE;
            END IF;
            token_tats[v_key] := v_tat;
        END IF;
        IF holds[i] > v_free THEN
            holds[i] := v_free;
            cache_keys[i] := NULL;                          -- a response under a lowered cap is not shared
        END IF;
        outcomes[i] := 'admitted';
        v_leaders[p_first_identical[i]] := CASE WHEN cache_keys[i] IS NOT NULL THEN i ELSE 0 END;
        v_in_flight[v_key] := v_in_flight[v_key] + 1;
        batch_holds[v_key] := batch_holds[v_key] + holds[i];
        batch_holds[v_project] := batch_holds[v_project] + holds[i];
    END LOOP;
END $$;

-- Give back what requests were charged that were admitted and are not in flight after all. Those that were to wait for one
-- of them have to ask again.
CREATE OR REPLACE FUNCTION give_back(
    p_decisions record, p_accounts record, p_lost integer[], p_requests text[], p_keys integer[], p_projects integer[],
    p_token_bounds bigint[]
) RETURNS record LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_lost_requests text[] := '{}';
    v_key     integer;
    v_project integer;
    i         integer;
BEGIN
    FOREACH i IN ARRAY p_lost LOOP
        v_lost_requests := v_lost_requests || p_requests[i];
        v_key := p_keys[i];
        v_project := p_projects[i];
        p_decisions.batch_holds[v_key] := p_decisions.batch_holds[v_key] - p_decisions.holds[i];
        p_decisions.batch_holds[v_project] := p_decisions.batch_holds[v_project] - p_decisions.holds[i];
        IF p_accounts.token_limits[v_key] IS NOT NULL THEN
            p_decisions.token_tats[v_key] := p_decisions.token_tats[v_key]
                - emission_interval_ns(p_accounts.token_limits[v_key]) * p_token_bounds[i];
        END IF;
    END LOOP;
    FOR i IN 1 .. cardinality(p_requests) LOOP
        IF p_decisions.outcomes[i] = 'coalesced' AND p_decisions.origins[i] = ANY (v_lost_requests) THEN
            p_decisions.outcomes[i] := 'retry';
        END IF;
    END LOOP;
    RETURN p_decisions;
END $$;

-- Insert the admitted attempts. Returns the decisions as they are then: another process may have inserted an identical
-- request first (retry), or the response may be in the cache by now (hit).
CREATE OR REPLACE FUNCTION insert_admitted(
    p_decisions record, p_accounts record, p_ids text[], p_rows admission_row[], p_project_ids text[], p_keys integer[],
    p_projects integer[], p_requests text[], p_min_created_at timestamptz[], p_token_bounds bigint[],
    p_admitted_at timestamptz[], p_idempotency_keys bytea[], p_idempotency text[]
) RETURNS record LANGUAGE plpgsql AS $$
DECLARE
    v_inserted text[];
    v_lost     integer[] := '{}';
    v_row      record;
BEGIN
    WITH inserted AS (
        INSERT INTO inflight (request_id, attempt, project_id, key_id, operation, model, provider, upstream_model, metadata,
                              cache_key, hold_nano_usd, token_bound, budget_day, reply_to, admitted_at, deadline,
                              idempotency_key, idempotency, said)
            SELECT r.request_id, 1, d.project_id, p_ids[r.key_place], r.operation, r.model, r.provider, r.upstream_model,
                   r.metadata::json, d.cache_key, d.hold, d.token_bound, p_accounts.today, r.reply_to, r.admitted_at,
                   r.deadline, d.idempotency_key, r.idempotency::json, r.said::json
            FROM unnest(p_project_ids, p_decisions.cache_keys, p_decisions.holds, p_token_bounds, p_idempotency_keys,
                        p_decisions.outcomes)
                WITH ORDINALITY AS d (project_id, cache_key, hold, token_bound, idempotency_key, outcome, i)
            CROSS JOIN LATERAL (SELECT (p_rows[d.i]).*) AS r
            WHERE d.outcome = 'admitted'
            ORDER BY d.project_id, d.cache_key, d.i         -- one order for all, or two batches could deadlock
            ON CONFLICT DO NOTHING                          -- of two keys: a deadlock by these is decided one by one
            RETURNING request_id
    ) SELECT coalesce(array_agg(request_id), '{}') INTO v_inserted FROM inserted;
    IF cardinality(v_inserted) < cardinality(array_positions(p_decisions.outcomes, 'admitted')) THEN
        FOR i IN 1 .. cardinality(p_requests) LOOP
            IF p_decisions.outcomes[i] = 'admitted' AND p_requests[i] <> ALL (v_inserted) THEN
                p_decisions.outcomes[i] := 'retry';
                v_lost := v_lost || i;
            END IF;
        END LOOP;
    END IF;
    -- The projector stores a response and ends its attempt in one transaction, which may have committed after the first
    -- look and before the insert: look again, or an identical request would go to the provider twice.
    IF array_remove(p_decisions.cache_keys, NULL) <> '{}' THEN
        FOR v_row IN
            SELECT c.request, c.origin
            FROM cached_responses(p_project_ids, p_decisions.cache_keys, p_min_created_at, p_admitted_at) AS c
        LOOP
            IF p_decisions.outcomes[v_row.request] = 'admitted' THEN
                DELETE FROM inflight WHERE request_id = p_requests[v_row.request] AND attempt = 1;
                p_decisions.outcomes[v_row.request] := 'hit';
                p_decisions.origins[v_row.request] := v_row.origin;
                v_lost := v_lost || v_row.request::integer;
            END IF;
        END LOOP;
    END IF;
    IF array_remove(p_idempotency_keys, NULL) <> '{}' THEN  -- as above: what is kept was in flight at the first look
        FOR v_row IN
            SELECT r.i
            FROM unnest(p_project_ids, p_idempotency_keys, p_idempotency::json[], p_admitted_at)
                WITH ORDINALITY AS r (project_id, k, asked, at, i)
            JOIN idempotency_entries e ON e.project_id = r.project_id AND e.idempotency_key = r.k AND e.expires_at > r.at
            WHERE r.asked ->> 'derived' IS DISTINCT FROM 'first'
        LOOP
            IF p_decisions.outcomes[v_row.i] = 'admitted' THEN
                DELETE FROM inflight WHERE request_id = p_requests[v_row.i] AND attempt = 1;
                p_decisions.outcomes[v_row.i] := 'retry';
                v_lost := v_lost || v_row.i::integer;
            END IF;
        END LOOP;
    END IF;
    IF v_lost <> '{}' THEN
        RETURN give_back(p_decisions, p_accounts, v_lost, p_requests, p_keys, p_projects, p_token_bounds);
    END IF;
    RETURN p_decisions;
END $$;

-- The tightest of the windows that apply to a request: the one with the least left once holds are counted as gone, or
-- the least unspent, if that is what refused.
CREATE OR REPLACE FUNCTION tightest_window(
    p_accounts record, p_batch_holds bigint[], p_key integer, p_project integer, p_uses_installation boolean,
    p_is_spent boolean, OUT name text, OUT allowed bigint, OUT taken bigint, OUT held bigint
) LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    SELECT w.name, w.allowed, w.taken, w.held INTO name, allowed, taken, held
        FROM (
            VALUES (1, 'daily', p_accounts.daily_limits[p_key], p_accounts.day_taken[p_key],
                    p_accounts.day_held[p_key] + p_batch_holds[p_key]),
                   (2, 'monthly', p_accounts.monthly_limits[p_key], p_accounts.month_taken[p_key],
                    p_accounts.month_held[p_key] + p_batch_holds[p_key]),
                   (3, 'project''s daily', p_accounts.daily_limits[p_project], p_accounts.day_taken[p_project],
                    p_accounts.day_held[p_project] + p_batch_holds[p_project]),
                   (4, 'project''s monthly', p_accounts.monthly_limits[p_project], p_accounts.month_taken[p_project],
                    p_accounts.month_held[p_project] + p_batch_holds[p_project]),
                   (5, 'installation''s daily',
                    CASE WHEN p_uses_installation THEN p_accounts.installation_limits[p_project] END,
                    p_accounts.day_taken[p_project], p_accounts.day_held[p_project] + p_batch_holds[p_project])
        ) AS w (i, name, allowed, taken, held)
        WHERE w.allowed IS NOT NULL
        ORDER BY w.allowed - w.taken - CASE WHEN p_is_spent THEN 0 ELSE w.held END, w.i
        LIMIT 1;
END $$;

-- What each decision comes to, with what is left of its limits after the batch. A window is named if a budget refused.
CREATE OR REPLACE FUNCTION report(
    p_decisions record, p_accounts record, p_keys integer[], p_projects integer[], p_uses_installation boolean[],
    p_appended bigint
) RETURNS TABLE (
    outcome text, origin text, hold bigint, budget_day date,
    requests_limit bigint, requests_remaining bigint, requests_reset_ns bigint,
    tokens_limit bigint, tokens_remaining bigint, tokens_reset_ns bigint,
    budget_remaining bigint, budget_window text, window_limit bigint, window_taken bigint, window_held bigint, retry_ns bigint,
    appended bigint
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_request_limits CONSTANT bigint[] := p_accounts.request_limits;
    v_request_tats   CONSTANT bigint[] := p_decisions.request_tats;
    v_token_limits   CONSTANT bigint[] := p_accounts.token_limits;
    v_token_tats     CONSTANT bigint[] := p_decisions.token_tats;
    v_free           CONSTANT bigint[] := p_accounts.free;
    v_installation_free CONSTANT bigint[] := p_accounts.installation_free;
    v_batch_holds    CONSTANT bigint[] := p_decisions.batch_holds;
    v_outcomes       CONSTANT text[] := p_decisions.outcomes;
    v_origins        CONSTANT text[] := p_decisions.origins;
    v_holds          CONSTANT bigint[] := p_decisions.holds;
    v_retries_ns     CONSTANT bigint[] := p_decisions.retries_ns;
    v_key         integer;
    v_project     integer;
    v_interval_ns bigint;
BEGIN
    budget_day := p_accounts.today;
    appended := p_appended;
    FOR i IN 1 .. cardinality(p_keys) LOOP
        v_key := p_keys[i];
        v_project := p_projects[i];
        outcome := v_outcomes[i];
        origin := v_origins[i];
        hold := CASE WHEN outcome = 'admitted' THEN v_holds[i] ELSE 0 END;
        retry_ns := v_retries_ns[i];
        requests_limit := v_request_limits[v_key];
        requests_reset_ns := greatest(0, v_request_tats[v_key] - p_accounts.now_ns);
        v_interval_ns := emission_interval_ns(requests_limit);
        requests_remaining := requests_limit - (requests_reset_ns + v_interval_ns - 1) / v_interval_ns;
        tokens_limit := v_token_limits[v_key];
        tokens_reset_ns := greatest(0, v_token_tats[v_key] - p_accounts.now_ns);
        v_interval_ns := emission_interval_ns(tokens_limit);
        tokens_remaining := greatest(0, tokens_limit - (tokens_reset_ns + v_interval_ns - 1) / v_interval_ns);
        budget_remaining := least(v_free[v_key] - v_batch_holds[v_key], v_free[v_project] - v_batch_holds[v_project],
                             CASE WHEN p_uses_installation[i]
                                  THEN v_installation_free[v_project] - v_batch_holds[v_project] END);
        IF outcome IN ('budget_held', 'budget_spent') THEN
            SELECT w.* INTO budget_window, window_limit, window_taken, window_held
                FROM tightest_window(p_accounts, v_batch_holds, v_key, v_project, p_uses_installation[i],
                                     outcome = 'budget_spent') AS w;
        ELSE
            budget_window := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Decide a batch of requests in one transaction, and insert the attempts of those that are admitted. The outcome of each
-- request, in their order:
--   hit        the response is there: in the cache, of the request `origin`, or in its process, which brings the event
--   coalesced  an identical request, `origin`, is in flight: this one waits for its response
--   admitted   its first attempt is in flight and holds `hold`
--   replay     a request with the same idempotency key, `origin`, is in flight or was answered: this one gets its end
--   mismatch   so is another request, `origin`, with the same idempotency key
--   retry      another request leads by now, or the leader ended between two looks: ask again
--   stale      the key works no longer, or has other settings than those that the request was planned with
--   rate_limit, token_limit   so many a minute; retry_ns says for how long
--   concurrency    as many requests of the key are in flight as may be
--   budget_held    there is room once requests in flight have released their holds
--   budget_spent   what is spent and assumed leaves too little
--   queued     there is room, but other requests have waited longer for it
--   unpriced   its price is unknown, and there is a budget
-- p_accounts: the accounts, keys and projects, each once, in their order. p_rows: the requests. Of their columns:
--   key_place, project_place   where the request's own are among the accounts
--   key_version    the version of the key's stream that the request was planned with; NULL: not compared
--   cache_key      NULL for a request that neither reads the cache nor shares its response
--   min_created_at how old a cached response may be; NULL: a fresh one is wanted
--   first_identical  the number of the first request in the batch with the same project and cache key; else its own
--   hold           the most that it can cost; NULL: there is no price
--   min_hold       the least hold that is of use; less than the hold if the response may be capped lower
--   accepts_lower_hold   it takes a lower hold now, instead of waiting
--   is_counted     the request was counted toward the rate limit when it asked before
--   served_data, served_digest   the event RequestServedFromCache of a request whose process has the response; it is
--                  appended unless the rate limit refuses
--   uses_installation  the provider is called under the installation's credential. The window for that is the project's
--                  day: what the project has spent under its own credentials counts in it too
--   is_last_in_line  others wait in its process for what this account holds
--   idempotency_key, idempotency   the key, and the JSON of domain/idempotency.py; NULL for a request without one
--   said           JSON, as `Said` in domain/request_identity.py; NULL for a request that says nothing
CREATE OR REPLACE FUNCTION admit(p_now timestamptz, p_accounts admission_account[], p_rows admission_row[])
RETURNS TABLE (
    outcome text, origin text, hold bigint, budget_day date,
    requests_limit bigint, requests_remaining bigint, requests_reset_ns bigint,
    tokens_limit bigint, tokens_remaining bigint, tokens_reset_ns bigint,
    budget_remaining bigint, budget_window text, window_limit bigint, window_taken bigint, window_held bigint, retry_ns bigint,
    appended bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_scopes      text[];
    v_ids         text[];
    v_asked       record;                                   -- a column of p_rows in each array
    v_accounts    record;
    v_checked     record;
    v_found       record;
    v_replays     record;
    v_decisions   record;
    v_appended    bigint;
BEGIN
    SELECT array_agg(a.scope), array_agg(a.id) INTO v_scopes, v_ids FROM unnest(p_accounts) AS a;
    SELECT array_agg(r.key_place) AS keys, array_agg(r.project_place) AS projects, array_agg(r.request_id) AS requests,
           array_agg(v_ids[r.project_place]) AS project_ids, array_agg(r.cache_key) AS cache_keys,
           array_agg(r.min_created_at) AS min_created_at, array_agg(r.first_identical) AS first_identical,
           array_agg(r.hold) AS holds, array_agg(r.min_hold) AS min_holds, array_agg(r.token_bound) AS token_bounds,
           array_agg(r.accepts_lower_hold) AS accepts_lower_hold, array_agg(r.is_counted) AS is_counted,
           array_agg(r.admitted_at) AS admitted_at, array_agg(r.served_data) AS served_data,
           array_agg(r.served_digest) AS served_digests, array_agg(r.key_version) AS key_versions,
           array_agg(r.uses_installation) AS uses_installation, array_agg(r.is_last_in_line) AS is_last_in_line,
           array_agg(r.idempotency_key) AS idempotency_keys, array_agg(r.idempotency) AS idempotency
        INTO v_asked FROM unnest(p_rows) AS r;
    v_accounts := load_accounts(p_now, v_scopes, v_ids);
    v_checked := check_keys(v_accounts, v_asked.keys, v_asked.key_versions, v_asked.is_counted);
    v_found := find_responses(v_asked.project_ids, v_asked.cache_keys, v_asked.min_created_at, v_asked.admitted_at,
                              v_asked.served_data, v_checked.outcomes);
    IF array_remove(v_asked.idempotency_keys, NULL) <> '{}' THEN
        SELECT f.keys, f.outcomes, f.origins INTO v_replays
            FROM find_replays(v_asked.project_ids, v_asked.idempotency, v_asked.admitted_at, v_checked.outcomes,
                              v_asked.idempotency_keys, v_found.outcomes, v_found.origins) AS f;
        v_asked.idempotency_keys := v_replays.keys;
        v_found.outcomes := v_replays.outcomes;
        v_found.origins := v_replays.origins;
    END IF;
    v_decisions := decide(
        v_accounts, v_asked.requests, v_asked.keys, v_asked.projects, v_asked.first_identical, v_asked.holds,
        v_asked.min_holds, v_asked.accepts_lower_hold, v_asked.token_bounds, v_asked.uses_installation,
        v_asked.is_last_in_line, v_found.outcomes, v_found.origins, v_checked.retries_ns, v_checked.request_tats,
        v_asked.cache_keys);
    IF 'admitted' = ANY (v_decisions.outcomes) THEN
        v_decisions := insert_admitted(
            v_decisions, v_accounts, v_ids, p_rows, v_asked.project_ids, v_asked.keys, v_asked.projects, v_asked.requests,
            v_asked.min_created_at, v_asked.token_bounds, v_asked.admitted_at, v_asked.idempotency_keys,
            v_asked.idempotency);
    ELSE
        PERFORM set_config('synchronous_commit', 'off', true);  -- nothing is held: a lost meter reading is no money
    END IF;
    INSERT INTO meters AS m (scope, scope_id, requests_tat, tokens_tat)
        SELECT a.scope, a.id, a.request_tat, a.token_tat
        FROM unnest(v_scopes, v_ids, v_decisions.request_tats, v_decisions.token_tats, v_accounts.has_limits)
            AS a (scope, id, request_tat, token_tat, has_limits)
        WHERE a.has_limits
        ON CONFLICT (scope, scope_id) DO UPDATE SET requests_tat = excluded.requests_tat, tokens_tat = excluded.tokens_tat
            WHERE (m.requests_tat, m.tokens_tat) <> (excluded.requests_tat, excluded.tokens_tat);
    IF array_remove(v_asked.served_data, NULL) <> '{}' THEN
        v_appended := append_cache_hits(v_asked.requests, v_asked.project_ids, v_asked.admitted_at, v_asked.served_data,
                                        v_asked.served_digests, v_decisions.outcomes);
    END IF;
    RETURN QUERY SELECT * FROM report(
        v_decisions, v_accounts, v_asked.keys, v_asked.projects, v_asked.uses_installation, v_appended);
END $$;

-- The same for API processes of the release before, which hand over an array for each column. Those before that name no
-- p_said.
CREATE OR REPLACE FUNCTION admit(
    p_now timestamptz, p_scopes text[], p_ids text[],
    p_keys integer[], p_projects integer[], p_requests text[], p_operations text[], p_models text[],
    p_providers text[], p_upstream_models text[], p_metadata text[], p_cache_keys bytea[],
    p_min_created_at timestamptz[], p_first_identical integer[], p_holds bigint[], p_min_holds bigint[],
    p_token_bounds bigint[], p_accepts_lower_hold boolean[], p_is_counted boolean[], p_reply_to text[],
    p_admitted_at timestamptz[], p_deadlines timestamptz[], p_served_data text[], p_served_digests bytea[],
    p_key_versions integer[], p_uses_installation boolean[], p_is_last_in_line boolean[],
    p_idempotency_keys bytea[], p_idempotency text[], p_said text[] DEFAULT NULL
) RETURNS TABLE (
    outcome text, origin text, hold bigint, budget_day date,
    requests_limit bigint, requests_remaining bigint, requests_reset_ns bigint,
    tokens_limit bigint, tokens_remaining bigint, tokens_reset_ns bigint,
    budget_remaining bigint, budget_window text, window_limit bigint, window_taken bigint, window_held bigint, retry_ns bigint,
    appended bigint
) LANGUAGE sql AS $$
    SELECT * FROM admit(
        p_now,
        ARRAY(SELECT ROW (a.*)::admission_account FROM unnest(p_scopes, p_ids) AS a),
        ARRAY(SELECT ROW (r.*)::admission_row
              FROM unnest(p_keys, p_projects, p_requests, p_operations, p_models, p_providers, p_upstream_models,
                          p_metadata, p_cache_keys, p_min_created_at, p_first_identical, p_holds, p_min_holds,
                          p_token_bounds, p_accepts_lower_hold, p_is_counted, p_reply_to, p_admitted_at, p_deadlines,
                          p_served_data, p_served_digests, p_key_versions, p_uses_installation, p_is_last_in_line,
                          p_idempotency_keys, p_idempotency, p_said) AS r))
$$;
