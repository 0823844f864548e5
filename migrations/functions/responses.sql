-- Requests that get a response without a call of a provider. See infra/admission.py.

-- Returns the requests for which the cache has a response that has not expired and is new enough for the request.
CREATE OR REPLACE FUNCTION cached_responses(
    p_projects text[], p_cache_keys bytea[], p_min_created_at timestamptz[], p_at timestamptz[]
) RETURNS TABLE (request bigint, origin text) LANGUAGE sql STABLE AS $$
    SELECT r.i, c.request_id
    FROM unnest(p_projects, p_cache_keys, p_min_created_at, p_at)
        WITH ORDINALITY AS r (project_id, cache_key, min_created_at, at, i)
    CROSS JOIN LATERAL (
        SELECT * FROM cache_entries e WHERE e.project_id = r.project_id AND e.cache_key = r.cache_key OFFSET 0
    ) AS c
    WHERE c.created_at >= r.min_created_at AND c.expires_at > r.at
$$;

-- Sets the outcomes of requests that need no call of a provider: hit, if their API process or the cache has the response;
-- coalesced, if an identical request is in flight. Other outcomes stay. `origins`: the request that got the response from
-- its provider; '' if the process has it.
CREATE OR REPLACE FUNCTION find_responses(
    p_projects text[], p_cache_keys bytea[], p_min_created_at timestamptz[], p_at timestamptz[], p_served_data text[],
    INOUT outcomes text[], OUT origins text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_row record;
BEGIN
    origins := array_fill(NULL::text, ARRAY[cardinality(p_projects)]);
    FOR i IN 1 .. cardinality(p_projects) LOOP
        IF outcomes[i] IS NULL AND p_served_data[i] IS NOT NULL THEN
            outcomes[i] := 'hit';
            origins[i] := '';
        END IF;
    END LOOP;
    IF array_remove(p_cache_keys, NULL) = '{}' THEN
        RETURN;
    END IF;
    FOR v_row IN
        SELECT c.request, c.origin FROM cached_responses(p_projects, p_cache_keys, p_min_created_at, p_at) AS c
    LOOP
        IF outcomes[v_row.request] IS NULL THEN
            outcomes[v_row.request] := 'hit';
            origins[v_row.request] := v_row.origin;
        END IF;
    END LOOP;
    FOR v_row IN
        SELECT r.i, f.request_id
        FROM unnest(p_projects, p_cache_keys) WITH ORDINALITY AS r (project_id, cache_key, i)
        CROSS JOIN LATERAL (
            SELECT * FROM inflight o WHERE o.project_id = r.project_id AND o.cache_key = r.cache_key OFFSET 0
        ) AS f
    LOOP
        IF outcomes[v_row.i] IS NULL THEN
            outcomes[v_row.i] := 'coalesced';
            origins[v_row.i] := v_row.request_id;
        END IF;
    END LOOP;
END $$;

-- Finds what is under idempotency keys, in flight or kept, for the requests that nothing has refused. Sets their outcomes:
-- replay, if it is the same request, `origin`, whose end this one gets; mismatch, if it is another. p_idempotency: JSON, as
-- domain/idempotency.py has it. A request with a derived key that is no retry is not answered by what is found. `keys`: NULL
-- now if it cannot have its key, because a request in flight has it.
CREATE OR REPLACE FUNCTION find_replays(
    p_projects text[], p_idempotency text[], p_at timestamptz[], p_refusals text[],
    INOUT keys bytea[], INOUT outcomes text[], INOUT origins text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_row record;
BEGIN
    FOR v_row IN                                            -- one statement, so one moment: what ends is in one or the other
        SELECT r.i, r.asked ->> 'fingerprint' AS fingerprint, r.asked ->> 'derived' AS derived, found.*
        FROM unnest(p_projects, keys, p_idempotency::json[], p_at) WITH ORDINALITY AS r (project_id, k, asked, at, i)
        CROSS JOIN LATERAL (
            SELECT f.request_id, f.idempotency ->> 'fingerprint' AS its_fingerprint, true AS is_in_flight
            FROM inflight f WHERE f.project_id = r.project_id AND f.idempotency_key = r.k
            UNION ALL
            SELECT e.request_id, e.fingerprint, false
            FROM idempotency_entries e
            WHERE e.project_id = r.project_id AND e.idempotency_key = r.k AND e.expires_at > r.at
        ) AS found
        WHERE r.k IS NOT NULL
        ORDER BY r.i, found.is_in_flight                    -- the newest last
    LOOP
        CONTINUE WHEN p_refusals[v_row.i] IS NOT NULL;
        IF v_row.derived IS NOT DISTINCT FROM 'first' THEN
            IF v_row.is_in_flight THEN
                keys[v_row.i] := NULL;
            END IF;
            CONTINUE;
        END IF;
        outcomes[v_row.i] := CASE WHEN v_row.fingerprint = v_row.its_fingerprint THEN 'replay' ELSE 'mismatch' END;
        origins[v_row.i] := v_row.request_id;
    END LOOP;
END $$;

-- Frees the idempotency keys of requests that have ended without a cost: a retry need not wait until they are counted.
CREATE OR REPLACE FUNCTION free_idempotency_key(p_request text) RETURNS void LANGUAGE sql AS $$
    UPDATE inflight SET idempotency_key = NULL WHERE request_id = p_request AND idempotency_key IS NOT NULL
$$;

-- Removes entries of idempotency keys that have expired, and the bodies of the oldest answers of projects that have too many
-- of them, or too many bytes; at most so many of each. Returns their number. The entry of a removed body stays until it
-- expires: its request was paid for, and a retry of it must not be paid again.
CREATE OR REPLACE FUNCTION remove_idempotency_entries(p_limit integer, p_max_answers bigint, p_max_bytes bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_removed bigint;
    v_evicted bigint;
BEGIN
    DELETE FROM idempotency_entries WHERE (project_id, idempotency_key) IN (
        SELECT project_id, idempotency_key FROM idempotency_entries WHERE expires_at < now() LIMIT p_limit);
    GET DIAGNOSTICS v_removed = ROW_COUNT;
    WITH full_projects AS (
        SELECT project_id FROM idempotency_entries WHERE blob_id IS NOT NULL GROUP BY project_id
        HAVING count(*) > p_max_answers OR sum(answer_bytes) > p_max_bytes
    ), ranked AS (
        SELECT e.project_id, e.idempotency_key, e.blob_id,
               count(*) OVER newest AS answers, sum(e.answer_bytes) OVER newest AS bytes
        FROM full_projects p JOIN idempotency_entries e ON e.project_id = p.project_id AND e.blob_id IS NOT NULL
        WINDOW newest AS (PARTITION BY e.project_id ORDER BY e.received_at_ms DESC, e.idempotency_key)
    ), evicted AS (
        UPDATE idempotency_entries e SET blob_id = NULL, answer_bytes = 0 FROM (
            SELECT project_id, idempotency_key, blob_id FROM ranked
            WHERE answers > p_max_answers OR bytes > p_max_bytes LIMIT p_limit
        ) AS r WHERE e.project_id = r.project_id AND e.idempotency_key = r.idempotency_key AND e.blob_id = r.blob_id
        RETURNING r.blob_id
    ), bodies AS (
        DELETE FROM blobs b USING evicted WHERE b.blob_id = evicted.blob_id
    ) SELECT count(*) INTO v_evicted FROM evicted;
    RETURN v_removed + v_evicted;
END $$;

-- Appends the events of the hits whose response the API process has, durably. Returns the position of the last event; NULL
-- if there is none.
CREATE OR REPLACE FUNCTION append_cache_hits(
    p_requests text[], p_projects text[], p_at timestamptz[], p_data text[], p_digests bytea[], p_outcomes text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_positions bigint[];
BEGIN
    SELECT append_events(
            array_agg(ROW (s.n, 'request-' || s.request_id, 1, 'RequestServedFromCache', s.project_id, s.at, s.data,
                           s.digest)::appended_event), '{}')
        INTO v_positions
        FROM (
            SELECT row_number() OVER (ORDER BY e.i) AS n, e.*
            FROM unnest(p_requests, p_projects, p_at, p_data, p_digests, p_outcomes)
                WITH ORDINALITY AS e (request_id, project_id, at, data, digest, outcome, i)
            WHERE e.data IS NOT NULL AND e.outcome = 'hit' ORDER BY e.i
        ) AS s
        HAVING count(*) > 0;
    IF v_positions IS NOT NULL THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    ASSERT array_position(v_positions, NULL) IS NULL, 'a new request already has events';
    RETURN v_positions[cardinality(v_positions)];
END $$;
