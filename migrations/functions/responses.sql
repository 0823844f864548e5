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

-- Appends the events of the hits whose response the API process has, durably. Returns the position of the last event; NULL
-- if there is none.
CREATE OR REPLACE FUNCTION append_cache_hits(
    p_requests text[], p_projects text[], p_at timestamptz[], p_data text[], p_digests bytea[], p_outcomes text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_positions bigint[];
BEGIN
    SELECT append_events(
            array_agg(s.n::integer), array_agg('request-' || s.request_id), array_agg(1),
            array_agg('RequestServedFromCache'::text), array_agg(s.project_id), array_agg(s.at), array_agg(s.data),
            array_agg(s.digest), '{}', '{}', '{}', '{}', '{}')
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
