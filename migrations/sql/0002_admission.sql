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
CREATE INDEX inflight_by_deadline ON inflight (deadline);

-- Which of the questions the cache answers: entry no older than the asker wants, not yet expired.
CREATE FUNCTION cached_answers(
    p_projects text[], p_cache_keys bytea[], p_newer_than timestamptz[], p_at timestamptz[]
) RETURNS TABLE (ordinal bigint, origin text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
        SELECT i, c.request_id
        FROM unnest(p_projects, p_cache_keys, p_newer_than, p_at) WITH ORDINALITY AS asked (p, k, t, now, i)
        JOIN cache_entries c ON c.project_id = p AND c.cache_key = k
        WHERE c.created_at >= t AND c.expires_at > now;
END $$;

-- Decide a batch of requests in one transaction. The outcome of each, in their order:
--   hit       the cache has an answer (of the request `origin`)
--   follow    the same question is on its way (under the request `origin`)
--   admitted  its first attempt is in flight
--   again     the leader ended between two looks: ask again
-- p_cache_keys: NULL for a request that neither reads nor shares. p_newer_than: NULL for one that wants a fresh answer.
CREATE FUNCTION admit(
    p_requests text[], p_projects text[], p_keys text[], p_operations text[], p_models text[], p_providers text[],
    p_upstream_models text[], p_metadata text[], p_cache_keys bytea[], p_newer_than timestamptz[], p_holds bigint[],
    p_budget_days date[], p_reply_to text[], p_at timestamptz[], p_deadlines timestamptz[],
    OUT outcomes text[], OUT origins text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_admitted text[];
    v_ordinal  bigint;
    v_origin   text;
BEGIN
    outcomes := array_fill('admitted'::text, ARRAY[cardinality(p_requests)]);
    origins := array_fill(NULL::text, ARRAY[cardinality(p_requests)]);
    FOR v_ordinal, v_origin IN SELECT * FROM cached_answers(p_projects, p_cache_keys, p_newer_than, p_at) LOOP
        outcomes[v_ordinal] := 'hit';
        origins[v_ordinal] := v_origin;
    END LOOP;

    WITH admitted AS (
        INSERT INTO inflight
            SELECT r, 1, p, k, o, m, pr, u, md::json, ck, h, bd, rt, a, dl, NULL, NULL
            FROM unnest(p_requests, p_projects, p_keys, p_operations, p_models, p_providers, p_upstream_models,
                        p_metadata, p_cache_keys, p_holds, p_budget_days, p_reply_to, p_at, p_deadlines)
                WITH ORDINALITY AS asked (r, p, k, o, m, pr, u, md, ck, h, bd, rt, a, dl, i)
            WHERE outcomes[i] = 'admitted'
            ORDER BY p, ck, i                               -- one order for all, or two batches could deadlock
            ON CONFLICT (project_id, cache_key) WHERE cache_key IS NOT NULL DO NOTHING
            RETURNING request_id
    ) SELECT coalesce(array_agg(request_id), '{}') INTO v_admitted FROM admitted;

    IF array_remove(p_cache_keys, NULL) = '{}' THEN
        RETURN;
    END IF;
    FOR v_ordinal, v_origin IN                              -- those who lost the race for the lead
        SELECT i, f.request_id
        FROM unnest(p_requests, p_projects, p_cache_keys) WITH ORDINALITY AS asked (r, p, k, i)
        LEFT JOIN inflight f ON f.project_id = p AND f.cache_key = k
        WHERE outcomes[i] = 'admitted' AND r <> ALL (v_admitted)
    LOOP
        outcomes[v_ordinal] := CASE WHEN v_origin IS NULL THEN 'again' ELSE 'follow' END;
        origins[v_ordinal] := v_origin;
    END LOOP;
    -- The projector stores an answer and ends its attempt in one transaction, which may have committed after the first
    -- look and before the insert: look again, or the same question would go to the provider twice.
    FOR v_ordinal, v_origin IN SELECT * FROM cached_answers(p_projects, p_cache_keys, p_newer_than, p_at) LOOP
        IF outcomes[v_ordinal] = 'admitted' THEN
            DELETE FROM inflight WHERE request_id = p_requests[v_ordinal] AND attempt = 1;
            outcomes[v_ordinal] := 'hit';
            origins[v_ordinal] := v_origin;
        END IF;
    END LOOP;
END $$;

-- Claim the unclaimed attempts of these requests. A request that is not returned has none: its job may have been
-- dropped, or an earlier delivery claimed it.
CREATE FUNCTION claim(p_requests text[], p_deliveries integer[], p_worker text)
RETURNS TABLE (claimed_request text, claimed_delivery integer, claimed_attempt integer, hold bigint, day date)
LANGUAGE sql AS $$
    UPDATE inflight f SET delivery = d, claimed_by = p_worker
    FROM unnest(p_requests, p_deliveries) AS asked (r, d)
    WHERE f.request_id = r AND f.delivery IS NULL
    RETURNING f.request_id, d, f.attempt, f.hold_nano_usd, f.budget_day
$$;

-- Admit the attempt after one that failed or was lost, already claimed by this delivery, and hand it the lead.
-- False: another delivery was first.
CREATE FUNCTION admit_next(
    p_request text, p_attempt integer, p_project text, p_key text, p_operation text, p_model text, p_provider text,
    p_upstream_model text, p_metadata text, p_cache_key bytea, p_hold bigint, p_budget_day date, p_reply_to text,
    p_at timestamptz, p_deadline timestamptz, p_delivery integer, p_worker text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM inflight WHERE request_id = p_request ORDER BY attempt FOR UPDATE;
    IF EXISTS (SELECT 1 FROM inflight
               WHERE request_id = p_request AND (attempt >= p_attempt OR delivery > p_delivery)) THEN
        RETURN false;
    END IF;
    UPDATE inflight SET cache_key = NULL WHERE request_id = p_request AND cache_key IS NOT NULL;
    IF EXISTS (SELECT 1 FROM inflight WHERE project_id = p_project AND cache_key = p_cache_key) THEN
        p_cache_key := NULL;                                -- another request leads by now
    END IF;
    INSERT INTO inflight VALUES (p_request, p_attempt, p_project, p_key, p_operation, p_model, p_provider,
        p_upstream_model, p_metadata::json, p_cache_key, p_hold, p_budget_day, p_reply_to, p_at, p_deadline,
        p_delivery, p_worker);
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RETURN false;
END $$;
