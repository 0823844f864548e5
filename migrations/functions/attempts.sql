-- After admission: a worker claims an attempt, admits the next one if it fails, and the projector settles it. See
-- infra/admission.py.

-- Claims the unclaimed attempts of these requests. If a request is not returned, it has no such attempt: its job was
-- dropped, or an earlier delivery claimed it.
CREATE OR REPLACE FUNCTION claim(p_requests text[], p_deliveries integer[], p_worker text)
RETURNS TABLE (claimed_request text, claimed_delivery integer, claimed_attempt integer, hold bigint, day date)
LANGUAGE sql AS $$
    UPDATE inflight f SET delivery = p_deliveries[array_position(p_requests, f.request_id)], claimed_by = p_worker
    WHERE f.request_id = ANY (p_requests) AND f.delivery IS NULL
    RETURNING f.request_id, f.delivery, f.attempt, f.hold_nano_usd, f.budget_day
$$;

-- Notes the most that attempts may have cost by now: what is assumed of them if their worker is found dead.
CREATE OR REPLACE FUNCTION report_progress(p_requests text[], p_attempts integer[], p_assumed bigint[]) RETURNS void
LANGUAGE sql AS $$
    UPDATE inflight f SET assumed_nano_usd = least(r.assumed, f.hold_nano_usd)
    FROM unnest(p_requests, p_attempts, p_assumed) AS r (request_id, attempt, assumed)
    WHERE f.request_id = ANY (p_requests) AND f.request_id = r.request_id AND f.attempt = r.attempt
$$;

-- The same, with what has come so far: JSON, as `SeenStream` in infra/admission.py has it. The one above is called by workers
-- of the release before. No bound (NULL) stays none: it is not the hold.
CREATE OR REPLACE FUNCTION report_progress(p_requests text[], p_attempts integer[], p_assumed bigint[], p_seen text[])
RETURNS void LANGUAGE sql AS $$
    UPDATE inflight f SET
        assumed_nano_usd = CASE WHEN coalesce(r.assumed, f.assumed_nano_usd) IS NOT NULL
                                THEN least(coalesce(r.assumed, f.assumed_nano_usd), f.hold_nano_usd) END,
        seen = r.seen::json
    FROM unnest(p_requests, p_attempts, p_assumed, p_seen) AS r (request_id, attempt, assumed, seen)
    WHERE f.request_id = ANY (p_requests) AND f.request_id = r.request_id AND f.attempt = r.attempt
$$;

-- Admits the attempt after one that failed or was lost. This delivery has claimed it, and identical requests now follow
-- it. It holds its own amount (null: its cost has no bound) in the windows of the attempt before it; both hold until that
-- one is counted. Returns admitted, taken (another delivery was first: this attempt is in flight or has an outcome, or the
-- request has ended), or budget_exhausted (the windows have too little left, or there are windows and the cost has no
-- bound).
CREATE OR REPLACE FUNCTION admit_next(
    p_request text, p_attempt integer, p_project text, p_key text, p_operation text, p_model text, p_provider text,
    p_upstream_model text, p_metadata text, p_cache_key bytea, p_hold bigint, p_budget_day date, p_reply_to text,
    p_at timestamptz, p_deadline timestamptz, p_delivery integer, p_worker text, p_uses_installation boolean,
    p_idempotency_key bytea, p_idempotency text, p_said text DEFAULT NULL
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_scopes   CONSTANT text[] := ARRAY['key', 'project'];
    v_ids      CONSTANT text[] := ARRAY[p_key, p_project];
    v_free     bigint;
    v_violated text;
BEGIN
    PERFORM lock_meters(v_scopes, v_ids, (
        SELECT array_agg(l.has_limits ORDER BY l.account) FROM account_limits(v_scopes, v_ids) AS l));
    PERFORM 1 FROM inflight WHERE request_id = p_request ORDER BY attempt FOR UPDATE;
    IF EXISTS (SELECT 1 FROM inflight
               WHERE request_id = p_request AND (attempt >= p_attempt OR delivery > p_delivery)) THEN
        RETURN 'taken';
    END IF;
    IF EXISTS (SELECT 1 FROM events                         -- read after the rows: they go when this is in the log
               WHERE stream = 'request-' || p_request
                 AND CASE WHEN type IN ('RequestCompleted', 'RequestFailed') THEN true
                          WHEN type IN ('CostIncurred', 'AttemptFailed', 'AttemptLost')
                          THEN (data ->> 'attempt')::integer >= p_attempt END) THEN
        RETURN 'taken';
    END IF;
    SELECT min(w.free) INTO v_free
        FROM account_limits(v_scopes, v_ids) AS l
        JOIN account_usage(v_scopes, v_ids, ARRAY[true, true], p_budget_day) AS u ON u.account = l.account
        CROSS JOIN LATERAL (
            VALUES (l.daily - u.day_taken - u.day_held), (l.monthly - u.month_taken - u.month_held),
                   (CASE WHEN p_uses_installation THEN l.installation_daily END - u.day_taken - u.day_held)
        ) AS w (free);
    IF v_free IS NOT NULL AND (p_hold IS NULL OR p_hold > v_free) THEN
        RETURN 'budget_exhausted';
    END IF;
    LOOP                                                    -- at most thrice: a key that is NULL violates nothing
        BEGIN
            UPDATE inflight SET cache_key = NULL, idempotency_key = NULL, is_newest = false
                WHERE request_id = p_request AND (is_newest OR cache_key IS NOT NULL OR idempotency_key IS NOT NULL);
            IF EXISTS (SELECT 1 FROM inflight WHERE project_id = p_project AND cache_key = p_cache_key) THEN
                p_cache_key := NULL;                        -- identical requests follow another one by now
            END IF;
            IF EXISTS (SELECT 1 FROM inflight WHERE project_id = p_project AND idempotency_key = p_idempotency_key) THEN
                p_idempotency_key := NULL;                  -- a derived one: an equal request has it by now
            END IF;
            INSERT INTO inflight (request_id, attempt, project_id, key_id, operation, model, provider, upstream_model,
                                  metadata, cache_key, hold_nano_usd, token_bound, budget_day, reply_to, admitted_at,
                                  deadline, delivery, claimed_by, idempotency_key, idempotency, said)
                VALUES (p_request, p_attempt, p_project, p_key, p_operation, p_model, p_provider, p_upstream_model,
                        p_metadata::json, p_cache_key, coalesce(p_hold, 0), 0, p_budget_day, p_reply_to, p_at,
                        p_deadline, p_delivery, p_worker, p_idempotency_key, p_idempotency::json, p_said::json);
            RETURN 'admitted';
        EXCEPTION WHEN unique_violation THEN
            GET STACKED DIAGNOSTICS v_violated = CONSTRAINT_NAME;
            CASE v_violated                                 -- another request was admitted since it was looked for
                WHEN 'inflight_leaders' THEN p_cache_key := NULL;
                WHEN 'inflight_idempotency' THEN p_idempotency_key := NULL;
                ELSE RETURN 'taken';
            END CASE;
        END;
    END LOOP;
END $$;

-- Releases the holds of attempts whose outcome is counted in this transaction, and corrects the token limits to the tokens
-- that were used (p_tokens; -1: unknown, the charge of the admission stays). Locks meters before rows, as admission does.
-- If a key used far more tokens than its limit, it is in debt for a day at most.
CREATE OR REPLACE FUNCTION settle(p_requests text[], p_attempts integer[], p_keys text[], p_tokens bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c_day CONSTANT bigint := 86400000000000;
    v_now CONSTANT bigint := epoch_ns(clock_timestamp());
BEGIN
    PERFORM 1 FROM meters m JOIN api_keys k ON k.key_id = m.scope_id AND k.token_limit IS NOT NULL
        WHERE m.scope = 'key' AND m.scope_id = ANY (p_keys) ORDER BY m.scope_id FOR NO KEY UPDATE OF m;
    WITH ended AS (
        DELETE FROM inflight f USING unnest(p_requests, p_attempts, p_tokens) AS e (r, a, tokens)
        WHERE f.request_id = ANY (p_requests) AND f.request_id = e.r AND f.attempt = e.a
        RETURNING f.key_id, CASE WHEN e.tokens >= 0 THEN e.tokens - f.token_bound ELSE 0 END AS more
    )
    UPDATE meters m SET tokens_tat = greatest(0, least(
            m.tokens_tat + s.more * emission_interval_ns(k.token_limit),
            greatest(m.tokens_tat, v_now + c_day)))
        FROM (SELECT ended.key_id, sum(ended.more::numeric) AS more FROM ended GROUP BY ended.key_id) AS s
        JOIN api_keys k ON k.key_id = s.key_id AND k.token_limit IS NOT NULL
        WHERE m.scope = 'key' AND m.scope_id = s.key_id AND s.more <> 0;
END $$;

-- Drops attempts that no worker has claimed: nothing was called, so nothing is charged. Returns their requests.
CREATE OR REPLACE FUNCTION drop_unclaimed(p_requests text[]) RETURNS SETOF text LANGUAGE sql AS $$
    DELETE FROM inflight WHERE request_id = ANY (p_requests) AND delivery IS NULL RETURNING request_id
$$;

-- Drops attempts that no worker has claimed, and appends how their requests ended, in one transaction: nothing was called,
-- so nothing is charged, and no death leaves a request without an end. One event for each request. Returns the requests that
-- were dropped, and the head of the log after it.
CREATE OR REPLACE FUNCTION withdraw(
    p_requests text[], p_streams text[], p_versions integer[], p_types text[], p_projects text[], p_at timestamptz[],
    p_data text[], p_digests bytea[],
    OUT dropped text[], OUT head bigint, OUT digest bytea
) LANGUAGE plpgsql AS $$
DECLARE
    v_places integer[];
BEGIN
    PERFORM 1 FROM inflight WHERE request_id = ANY (p_requests) ORDER BY request_id, attempt FOR UPDATE;
    WITH gone AS (
        DELETE FROM inflight WHERE request_id = ANY (p_requests) AND delivery IS NULL RETURNING request_id
    ) SELECT coalesce(array_agg(request_id), '{}') INTO dropped FROM gone;
    SELECT array_agg(r.i::integer ORDER BY r.i) INTO v_places
        FROM unnest(p_requests) WITH ORDINALITY AS r (request, i) WHERE r.request = ANY (dropped);
    IF v_places IS NULL THEN
        SELECT h.position, h.digest INTO head, digest FROM log_head AS h;
        RETURN;
    END IF;
    SELECT b.head, b.digest INTO head, digest
        FROM append_batch(
            ARRAY(SELECT ROW (k, p_streams[i], p_versions[i], p_types[i], p_projects[i], p_at[i], p_data[i],
                              p_digests[i])::appended_event
                  FROM unnest(v_places) WITH ORDINALITY AS p (i, k) ORDER BY k),
            '{}') AS b;
END $$;

-- Stops these requests from leading identical ones.
CREATE OR REPLACE FUNCTION end_leads(p_requests text[]) RETURNS void LANGUAGE sql AS $$
    UPDATE inflight SET cache_key = NULL WHERE request_id = ANY (p_requests) AND cache_key IS NOT NULL
$$;
