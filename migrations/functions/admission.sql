-- Deciding about attempts and their holds. See infra/admission.py.
--
-- Plans are made once for each connection, perhaps while a table is empty, and kept. OFFSET 0 in the functions below keeps
-- the planner from joining the other way round, which would read the whole table for ever after.

-- Which of the questions the cache answers: entry no older than the asker wants, not yet expired.
CREATE OR REPLACE FUNCTION cached_answers(
    p_projects text[], p_cache_keys bytea[], p_newer_than timestamptz[], p_at timestamptz[]
) RETURNS TABLE (ordinal bigint, origin text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
        SELECT i, c.request_id
        FROM unnest(p_projects, p_cache_keys, p_newer_than, p_at) WITH ORDINALITY AS asked (p, k, t, now, i)
        CROSS JOIN LATERAL (SELECT * FROM cache_entries e WHERE e.project_id = p AND e.cache_key = k OFFSET 0) AS c
        WHERE c.created_at >= t AND c.expires_at > now;
END $$;

-- Lock the meters of these accounts, which are in the order of (scope, scope_id); accounts without limits are left out.
CREATE OR REPLACE FUNCTION lock_meters(
    p_scopes text[], p_ids text[], p_limited boolean[], OUT requests_tats bigint[], OUT tokens_tats bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_wanted integer := (SELECT count(*) FROM unnest(p_limited) AS l WHERE l);
    v_locked integer;
    v_row    record;
BEGIN
    LOOP
        requests_tats := array_fill(0::bigint, ARRAY[cardinality(p_ids)]);
        tokens_tats := requests_tats;
        v_locked := 0;
        FOR v_row IN
            SELECT a.i, m.requests_tat, m.tokens_tat
            FROM unnest(p_scopes, p_ids, p_limited) WITH ORDINALITY AS a (scope, id, limited, i)
            CROSS JOIN LATERAL (
                SELECT * FROM meters o WHERE o.scope = a.scope AND o.scope_id = a.id OFFSET 0 FOR NO KEY UPDATE
            ) AS m
            WHERE a.limited                                 -- row by row, in the order of the arrays
        LOOP
            requests_tats[v_row.i] := v_row.requests_tat;
            tokens_tats[v_row.i] := v_row.tokens_tat;
            v_locked := v_locked + 1;
        END LOOP;
        EXIT WHEN v_locked = v_wanted;
        INSERT INTO meters (scope, scope_id)            -- an account's first limited request
            SELECT a.scope, a.id FROM unnest(p_scopes, p_ids, p_limited) AS a (scope, id, limited)
            WHERE a.limited ORDER BY a.scope, a.id
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- These have had other signatures: CREATE OR REPLACE would leave the old ones beside the new.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE proname IN ('admit', 'admit_next', 'limits_of') AND pronamespace = current_schema()::regnamespace
    LOOP
        EXECUTE 'DROP FUNCTION ' || v_function;
    END LOOP;
END $$;

-- What each account may spend and do. A key's windows are its own; a project's are shared by its keys, and it may have one
-- more, for what is called under the installation's credentials. Of a key also the version of its stream, and when it stops
-- working.
CREATE OR REPLACE FUNCTION limits_of(p_scopes text[], p_ids text[])
RETURNS TABLE (
    place bigint, daily bigint, monthly bigint, requests bigint, tokens bigint, concurrency bigint, is_limited boolean,
    version integer, ends_at timestamptz, installation bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT a.i, coalesce(k.daily_budget_nano_usd, p.daily_budget_nano_usd),
               coalesce(k.monthly_budget_nano_usd, p.monthly_budget_nano_usd),
               k.rate_limit, k.token_limit, k.concurrency_limit,
               coalesce(k.daily_budget_nano_usd, p.daily_budget_nano_usd, k.monthly_budget_nano_usd,
                        p.monthly_budget_nano_usd, k.rate_limit, k.token_limit, k.concurrency_limit,
                        p.installation_daily_budget_nano_usd) IS NOT NULL,
               k.version, least(k.revoked_at, k.expires_at), p.installation_daily_budget_nano_usd
        FROM unnest(p_scopes, p_ids) WITH ORDINALITY AS a (scope, id, i)
        LEFT JOIN LATERAL (SELECT * FROM api_keys o WHERE a.scope = 'key' AND o.key_id = a.id OFFSET 0) AS k ON true
        LEFT JOIN LATERAL (
            SELECT * FROM projects o WHERE a.scope = 'project' AND o.project_id = a.id OFFSET 0
        ) AS p ON true
        ORDER BY a.i;
END $$;

-- What is taken of an account's windows on a day: spent and assumed from the projection, held from the rows in flight.
-- One statement, so one snapshot: the projector counts a cost and deletes its row in one transaction. A sum stops at
-- c_most, which is above every budget: so no sum of two of them leaves bigint, whatever callers were answered.
CREATE OR REPLACE FUNCTION taken_of(p_scopes text[], p_ids text[], p_wanted boolean[], p_day date)
RETURNS TABLE (
    place bigint, day_taken bigint, month_taken bigint, day_held bigint, month_held bigint, requests_in_flight bigint
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    c_most  CONSTANT bigint := 2000000000000000000;
    v_month date := date_trunc('month', p_day::timestamp)::date;
BEGIN
    RETURN QUERY
        SELECT a.i,
               coalesce((SELECT least(d.spent_nano_usd::numeric + d.assumed_nano_usd, c_most)::bigint FROM budget_balances d
                         WHERE d.scope = a.scope AND d.scope_id = a.id AND d.period = 'day' AND d.starts_on = p_day), 0),
               coalesce((SELECT least(m.spent_nano_usd::numeric + m.assumed_nano_usd, c_most)::bigint FROM budget_balances m
                         WHERE m.scope = a.scope AND m.scope_id = a.id AND m.period = 'month' AND m.starts_on = v_month), 0),
               least(coalesce(f.of_day, 0), c_most)::bigint, least(coalesce(f.of_month, 0), c_most)::bigint, f.requests
        FROM unnest(p_scopes, p_ids, p_wanted) WITH ORDINALITY AS a (scope, id, wanted, i)
        CROSS JOIN LATERAL (
            SELECT sum(held.hold_nano_usd) FILTER (WHERE held.budget_day = p_day) AS of_day,
                   sum(held.hold_nano_usd) FILTER (WHERE held.budget_day >= v_month AND held.budget_day < v_month + interval '1 month') AS of_month,
                   count(DISTINCT held.request_id) AS requests
            FROM (
                SELECT hold_nano_usd, budget_day, request_id FROM inflight WHERE a.scope = 'key' AND key_id = a.id
                UNION ALL
                SELECT hold_nano_usd, budget_day, request_id FROM inflight
                WHERE a.scope = 'project' AND project_id = a.id
            ) AS held
        ) AS f
        WHERE a.wanted;
END $$;

-- Append the events of those who are given an answer that was at hand, durably; returns the last one's position.
CREATE OR REPLACE FUNCTION append_served(
    p_requests text[], p_projects text[], p_at timestamptz[], p_data text[], p_digests bytea[], p_outcomes text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_positions bigint[];
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT append_events(
            array_agg(s.n::integer), array_agg('request-' || s.r), array_agg(1), array_agg('RequestServedFromCache'::text),
            array_agg(s.p), array_agg(s.a), array_agg(s.d), array_agg(s.g), '{}', '{}', '{}', '{}', '{}')
        INTO v_positions
        FROM (
            SELECT row_number() OVER (ORDER BY e.i) AS n, e.*
            FROM unnest(p_requests, p_projects, p_at, p_data, p_digests, p_outcomes)
                WITH ORDINALITY AS e (r, p, a, d, g, o, i)
            WHERE e.d IS NOT NULL AND e.o = 'hit' ORDER BY e.i
        ) AS s;
    ASSERT array_position(v_positions, NULL) IS NULL, 'a request was served before it was served';
    RETURN v_positions[cardinality(v_positions)];
END $$;

-- Decide a batch of requests in one transaction. p_scopes, p_ids: the accounts concerned, each once, in their order;
-- p_key_at, p_project_at: the places of each request's own. The outcome of each request, in their order:
--   hit        the cache has an answer (of the request `origin`; of the process's own memory where it brings the event of it)
--   coalesced  an identical request is in flight: this one waits for its response (of the request `origin`)
--   admitted   its first attempt is in flight and holds `hold`
--   retry      another request leads by now, or the leader ended between two looks: ask again
--   stale      the key works no longer, or has other settings than those that the request was planned with
--   rate_limit, token_limit   so many a minute; retry_ns says for how long
--   concurrency    as many requests of the key are in flight as may be
--   budget_held    there is room once requests in flight have released their holds
--   budget_spent   what is spent and assumed leaves too little
--   unpriced   its price is unknown, and there is a budget
-- p_cache_keys: NULL for a request that neither reads nor shares. p_newer_than: NULL for one that wants a fresh answer.
-- p_first: the place of the first request in the batch that asks the same. p_holds: what is asked for, NULL where there is
-- no price; p_floors: the least that is of use, less than the hold where the answer may be capped lower. p_is_final: a lower
-- hold is taken now, instead of waiting. p_is_counted: the request was counted toward the rate limit when it asked before.
-- p_served_data: the event, RequestServedFromCache, of one whose answer is at hand, appended unless the rate limit refuses it.
-- p_key_versions: the version of its key's stream that the request was planned with; NULL: not looked at.
-- p_installation: the provider is called under the installation's credential. The window for that is the project's day: what
-- the project has taken under its own credentials counts in it too.
CREATE OR REPLACE FUNCTION admit(
    p_now timestamptz, p_scopes text[], p_ids text[],
    p_key_at integer[], p_project_at integer[], p_requests text[], p_operations text[], p_models text[],
    p_providers text[], p_upstream_models text[], p_metadata text[], p_cache_keys bytea[], p_newer_than timestamptz[],
    p_first integer[], p_holds bigint[], p_floors bigint[], p_tokens bigint[], p_is_final boolean[],
    p_is_counted boolean[], p_reply_to text[], p_at timestamptz[], p_deadlines timestamptz[],
    p_served_data text[], p_served_digests bytea[], p_key_versions integer[],
    p_installation boolean[]
) RETURNS TABLE (
    outcome text, origin text, hold bigint, budget_day date,
    requests_limit bigint, requests_left bigint, requests_reset_ns bigint,
    tokens_limit bigint, tokens_left bigint, tokens_reset_ns bigint,
    budget_left bigint, budget_window text, window_limit bigint, window_taken bigint, window_held bigint, retry_ns bigint,
    appended bigint
) LANGUAGE plpgsql AS $$
DECLARE
    c_minute  CONSTANT bigint := 60000000000;
    c_windows CONSTANT text[] := ARRAY['daily', 'monthly', 'project''s daily', 'project''s monthly', 'installation''s daily'];
    v_count     integer := cardinality(p_requests);
    v_accounts  integer := cardinality(p_ids);
    v_projects  text[] := array_fill(NULL::text, ARRAY[v_count]);
    v_outcomes  text[] := array_fill(NULL::text, ARRAY[v_count]);
    v_origins   text[] := array_fill(NULL::text, ARRAY[v_count]);
    v_granted   bigint[] := array_fill(0::bigint, ARRAY[v_count]);
    v_shared    bytea[] := p_cache_keys;
    v_leaders   integer[] := array_fill(0, ARRAY[v_count]);     -- by p_first: who leads those that ask the same
    v_daily     bigint[];
    v_monthly   bigint[];
    v_installation bigint[];
    v_rate      bigint[];
    v_tokens    bigint[];
    v_parallel  bigint[];
    v_limited   boolean[];
    v_versions  integer[];
    v_ends_at   timestamptz[];
    v_counted   boolean[] := array_fill(false, ARRAY[v_accounts]);
    v_requests_tat bigint[];
    v_tokens_tat   bigint[];
    v_day_taken    bigint[] := array_fill(0::bigint, ARRAY[v_accounts]);
    v_month_taken  bigint[] := v_day_taken;
    v_day_held     bigint[] := v_day_taken;
    v_month_held   bigint[] := v_day_taken;
    v_in_flight    bigint[] := v_day_taken;
    v_today     date;
    v_now       bigint;
    v_serves    boolean := false;
    v_row       record;
    v_admits    boolean[];
    v_admitted  text[];
    v_key       integer;
    v_project   integer;
    v_step      bigint;
    v_tat       bigint;
    v_limits    bigint[];
    v_takens    bigint[];
    v_helds     bigint[];
    v_free      bigint;                                     -- NULL: no window applies
    v_fits      bigint;
    v_tightest  integer;
BEGIN
    SELECT array_agg(l.daily ORDER BY l.place), array_agg(l.monthly ORDER BY l.place), array_agg(l.requests ORDER BY l.place),
           array_agg(l.tokens ORDER BY l.place), array_agg(l.concurrency ORDER BY l.place),
           array_agg(l.is_limited ORDER BY l.place), array_agg(l.version ORDER BY l.place),
           array_agg(l.ends_at ORDER BY l.place), array_agg(l.installation ORDER BY l.place)
        INTO v_daily, v_monthly, v_rate, v_tokens, v_parallel, v_limited, v_versions, v_ends_at, v_installation
        FROM limits_of(p_scopes, p_ids) AS l;
    ASSERT cardinality(v_limited) = v_accounts, 'an account is there twice';
    SELECT * INTO v_requests_tat, v_tokens_tat FROM lock_meters(p_scopes, p_ids, v_limited);

    p_now := coalesce(p_now, clock_timestamp());            -- after the locks: time does not go back for an account
    v_now := (extract(epoch FROM p_now) * 1000000)::bigint * 1000;
    v_today := (p_now AT TIME ZONE 'UTC')::date;
    FOR v_key IN 1 .. v_accounts LOOP
        v_counted[v_key] := coalesce(v_daily[v_key], v_monthly[v_key], v_parallel[v_key], v_installation[v_key]) IS NOT NULL;
    END LOOP;
    IF true = ANY (v_counted) THEN
        FOR v_row IN SELECT * FROM taken_of(p_scopes, p_ids, v_counted, v_today) LOOP
            v_day_taken[v_row.place] := v_row.day_taken;
            v_month_taken[v_row.place] := v_row.month_taken;
            v_day_held[v_row.place] := v_row.day_held;
            v_month_held[v_row.place] := v_row.month_held;
            v_in_flight[v_row.place] := v_row.requests_in_flight;
        END LOOP;
    END IF;
    FOR v_key IN 1 .. v_count LOOP
        v_projects[v_key] := p_ids[p_project_at[v_key]];
        IF p_served_data[v_key] IS NOT NULL THEN
            v_origins[v_key] := '';
        END IF;
    END LOOP;
    IF array_remove(p_cache_keys, NULL) <> '{}' THEN
        FOR v_row IN SELECT * FROM cached_answers(v_projects, p_cache_keys, p_newer_than, p_at) AS c LOOP
            v_origins[v_row.ordinal] := v_row.origin;
        END LOOP;
        FOR v_row IN
            SELECT asked.i, f.request_id
            FROM unnest(v_projects, p_cache_keys) WITH ORDINALITY AS asked (p, k, i)
            CROSS JOIN LATERAL (SELECT * FROM inflight o WHERE o.project_id = p AND o.cache_key = k OFFSET 0) AS f
        LOOP
            IF v_origins[v_row.i] IS NULL THEN
                v_origins[v_row.i] := v_row.request_id;
                v_outcomes[v_row.i] := 'coalesced';
            END IF;
        END LOOP;
    END IF;

    FOR i IN 1 .. v_count LOOP
        v_key := p_key_at[i];
        v_project := p_project_at[i];

        IF v_ends_at[v_key] <= p_now OR p_key_versions[i] <> v_versions[v_key] THEN
            v_outcomes[i] := 'stale';
            CONTINUE;
        END IF;
        IF v_rate[v_key] IS NOT NULL AND NOT p_is_counted[i] THEN
            v_step := (c_minute + v_rate[v_key] - 1) / v_rate[v_key];
            v_tat := greatest(v_requests_tat[v_key], v_now) + v_step;
            IF v_tat - v_now > v_step * v_rate[v_key] THEN
                v_outcomes[i] := 'rate_limit';
                v_granted[i] := v_tat - v_now - v_step * v_rate[v_key];
                CONTINUE;
            END IF;
            v_requests_tat[v_key] := v_tat;
        END IF;
        IF v_origins[i] IS NOT NULL THEN
            v_outcomes[i] := coalesce(v_outcomes[i], 'hit');
            v_serves := v_serves OR p_served_data[i] IS NOT NULL;
            CONTINUE;
        END IF;
        IF v_leaders[p_first[i]] > 0 THEN                   -- the same question, earlier in this batch
            v_outcomes[i] := 'coalesced';
            v_origins[i] := p_requests[v_leaders[p_first[i]]];
            CONTINUE;
        END IF;

        v_limits := ARRAY[v_daily[v_key], v_monthly[v_key], v_daily[v_project], v_monthly[v_project],
                          CASE WHEN p_installation[i] THEN v_installation[v_project] END];
        v_takens := ARRAY[v_day_taken[v_key], v_month_taken[v_key], v_day_taken[v_project], v_month_taken[v_project],
                          v_day_taken[v_project]];
        v_helds := ARRAY[v_day_held[v_key], v_month_held[v_key], v_day_held[v_project], v_month_held[v_project],
                         v_day_held[v_project]];
        v_free := NULL;
        v_fits := NULL;
        FOR w IN 1 .. cardinality(c_windows) LOOP
            IF v_limits[w] IS NOT NULL THEN
                v_free := least(v_free, v_limits[w] - v_takens[w] - v_helds[w]);
                v_fits := least(v_fits, v_limits[w] - v_takens[w]);
            END IF;
        END LOOP;
        IF v_free IS NOT NULL AND p_holds[i] IS NULL THEN
            v_outcomes[i] := 'unpriced';
            CONTINUE;
        END IF;
        v_granted[i] := coalesce(p_holds[i], 0);
        IF v_granted[i] > v_free OR 0 = ANY (v_limits) THEN
            IF p_floors[i] > v_fits OR 0 = ANY (v_limits) THEN
                v_outcomes[i] := 'budget_spent';
            ELSIF p_floors[i] > v_free OR (v_free < v_fits AND NOT p_is_final[i]) THEN
                v_outcomes[i] := 'budget_held';
            ELSE
                v_granted[i] := v_free;
                v_shared[i] := NULL;                        -- an answer under a lowered cap is nobody else's
            END IF;
            CONTINUE WHEN v_outcomes[i] IS NOT NULL;
        END IF;

        IF v_in_flight[v_key] >= v_parallel[v_key] THEN
            v_outcomes[i] := 'concurrency';
            CONTINUE;
        END IF;
        IF v_tokens[v_key] IS NOT NULL THEN
            v_step := (c_minute + v_tokens[v_key] - 1) / v_tokens[v_key];
            v_tat := greatest(v_tokens_tat[v_key], v_now) + v_step * least(p_tokens[i], 2 * v_tokens[v_key]);
            IF v_tat - v_now > v_step * v_tokens[v_key] THEN
                v_outcomes[i] := 'token_limit';
                v_granted[i] := v_tat - v_now - v_step * v_tokens[v_key];
                CONTINUE;
            END IF;
            v_tokens_tat[v_key] := v_tat;
        END IF;
        v_outcomes[i] := 'admitted';
        v_leaders[p_first[i]] := CASE WHEN v_shared[i] IS NOT NULL THEN i ELSE 0 END;
        v_in_flight[v_key] := v_in_flight[v_key] + 1;
        v_day_held[v_key] := v_day_held[v_key] + v_granted[i];
        v_month_held[v_key] := v_month_held[v_key] + v_granted[i];
        v_day_held[v_project] := v_day_held[v_project] + v_granted[i];
        v_month_held[v_project] := v_month_held[v_project] + v_granted[i];
    END LOOP;

    IF 'admitted' = ANY (v_outcomes) THEN
        SELECT array_agg(o IS NOT DISTINCT FROM 'admitted' ORDER BY i) INTO v_admits
            FROM unnest(v_outcomes) WITH ORDINALITY AS decided (o, i);
        WITH admitted AS (
            INSERT INTO inflight
                SELECT r, 1, pr, p_ids[k], o, m, pv, u, md::json, ck, h, t, v_today, rt, a, dl, NULL, NULL
                FROM unnest(p_requests, v_projects, p_key_at, p_operations, p_models, p_providers, p_upstream_models,
                            p_metadata, v_shared, v_granted, p_tokens, p_reply_to, p_at, p_deadlines)
                    WITH ORDINALITY AS asked (r, pr, k, o, m, pv, u, md, ck, h, t, rt, a, dl, i)
                WHERE v_outcomes[i] = 'admitted'
                ORDER BY pr, ck, i                          -- one order for all, or two batches could deadlock
                ON CONFLICT (project_id, cache_key) WHERE cache_key IS NOT NULL DO NOTHING
                RETURNING request_id
        ) SELECT coalesce(array_agg(request_id), '{}') INTO v_admitted FROM admitted;
        FOR i IN 1 .. v_count LOOP                          -- those who lost the race for the lead
            IF v_outcomes[i] = 'admitted' AND p_requests[i] <> ALL (v_admitted) THEN
                v_outcomes[i] := 'retry';
            END IF;
        END LOOP;
        -- The projector stores an answer and ends its attempt in one transaction, which may have committed after the
        -- first look and before the insert: look again, or the same question would go to the provider twice.
        IF array_remove(v_shared, NULL) <> '{}' THEN
            FOR v_row IN SELECT * FROM cached_answers(v_projects, v_shared, p_newer_than, p_at) AS c LOOP
                IF v_outcomes[v_row.ordinal] = 'admitted' THEN
                    DELETE FROM inflight WHERE request_id = p_requests[v_row.ordinal] AND attempt = 1;
                    v_outcomes[v_row.ordinal] := 'hit';
                    v_origins[v_row.ordinal] := v_row.origin;
                END IF;
            END LOOP;
        END IF;
        FOR i IN 1 .. v_count LOOP
            v_key := p_key_at[i];
            v_project := p_project_at[i];
            IF v_admits[i] AND v_outcomes[i] <> 'admitted' THEN     -- gives back what it was charged
                v_in_flight[v_key] := v_in_flight[v_key] - 1;
                v_day_held[v_key] := v_day_held[v_key] - v_granted[i];
                v_month_held[v_key] := v_month_held[v_key] - v_granted[i];
                v_day_held[v_project] := v_day_held[v_project] - v_granted[i];
                v_month_held[v_project] := v_month_held[v_project] - v_granted[i];
                IF v_tokens[v_key] IS NOT NULL THEN
                    v_step := (c_minute + v_tokens[v_key] - 1) / v_tokens[v_key];
                    v_tokens_tat[v_key] := v_tokens_tat[v_key] - v_step * p_tokens[i];
                END IF;
            ELSIF v_outcomes[i] = 'coalesced' AND v_origins[i] = p_requests[v_leaders[p_first[i]]]
                    AND v_outcomes[v_leaders[p_first[i]]] <> 'admitted' THEN
                v_outcomes[i] := 'retry';                   -- meant to follow somebody who does not lead
            END IF;
        END LOOP;
    ELSE
        PERFORM set_config('synchronous_commit', 'off', true);  -- nothing is held: a lost meter reading is no money
    END IF;
    INSERT INTO meters AS m
        SELECT s, id, r, tk
        FROM unnest(p_scopes, p_ids, v_requests_tat, v_tokens_tat, v_limited) AS n (s, id, r, tk, limited)
        WHERE limited
        ON CONFLICT (scope, scope_id) DO UPDATE SET requests_tat = excluded.requests_tat, tokens_tat = excluded.tokens_tat
            WHERE (m.requests_tat, m.tokens_tat) <> (excluded.requests_tat, excluded.tokens_tat);

    IF v_serves THEN
        appended := append_served(p_requests, v_projects, p_at, p_served_data, p_served_digests, v_outcomes);
    END IF;
    FOR i IN 1 .. v_count LOOP
        v_key := p_key_at[i];
        v_project := p_project_at[i];
        outcome := v_outcomes[i];
        origin := v_origins[i];
        hold := CASE WHEN outcome = 'admitted' THEN v_granted[i] ELSE 0 END;
        retry_ns := CASE WHEN outcome IN ('rate_limit', 'token_limit') THEN v_granted[i] END;
        budget_day := v_today;
        requests_limit := v_rate[v_key];
        v_step := (c_minute + requests_limit - 1) / requests_limit;
        requests_reset_ns := greatest(0, v_requests_tat[v_key] - v_now);
        requests_left := requests_limit - (requests_reset_ns + v_step - 1) / v_step;
        tokens_limit := v_tokens[v_key];
        v_step := (c_minute + tokens_limit - 1) / tokens_limit;
        tokens_reset_ns := greatest(0, v_tokens_tat[v_key] - v_now);
        tokens_left := greatest(0, tokens_limit - (tokens_reset_ns + v_step - 1) / v_step);
        v_limits := ARRAY[v_daily[v_key], v_monthly[v_key], v_daily[v_project], v_monthly[v_project],
                          CASE WHEN p_installation[i] THEN v_installation[v_project] END];
        v_takens := ARRAY[v_day_taken[v_key], v_month_taken[v_key], v_day_taken[v_project], v_month_taken[v_project],
                          v_day_taken[v_project]];
        v_helds := ARRAY[v_day_held[v_key], v_month_held[v_key], v_day_held[v_project], v_month_held[v_project],
                         v_day_held[v_project]];
        budget_left := NULL;
        v_fits := NULL;
        v_tightest := NULL;
        FOR w IN 1 .. cardinality(c_windows) LOOP
            v_free := v_limits[w] - v_takens[w] - v_helds[w];
            budget_left := least(budget_left, v_free);
            v_free := v_free + CASE WHEN outcome = 'budget_spent' THEN v_helds[w] ELSE 0 END;
            IF v_free < v_fits OR v_fits IS NULL AND v_free IS NOT NULL THEN
                v_fits := v_free;
                v_tightest := w;
            END IF;
        END LOOP;
        IF v_tightest IS NOT NULL THEN
            budget_window := c_windows[v_tightest];
            window_limit := v_limits[v_tightest];
            window_taken := v_takens[v_tightest];
            window_held := v_helds[v_tightest];
        ELSE
            budget_window := NULL;
            window_limit := NULL;
            window_taken := NULL;
            window_held := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Claim the unclaimed attempts of these requests. A request that is not returned has none: its job may have been
-- dropped, or an earlier delivery claimed it.
CREATE OR REPLACE FUNCTION claim(p_requests text[], p_deliveries integer[], p_worker text)
RETURNS TABLE (claimed_request text, claimed_delivery integer, claimed_attempt integer, hold bigint, day date)
LANGUAGE sql AS $$
    UPDATE inflight f SET delivery = p_deliveries[array_position(p_requests, f.request_id)], claimed_by = p_worker
    WHERE f.request_id = ANY (p_requests) AND f.delivery IS NULL
    RETURNING f.request_id, f.delivery, f.attempt, f.hold_nano_usd, f.budget_day
$$;

-- Admit the attempt after one that failed or was lost, already claimed by this delivery, and hand it the lead. It holds
-- what the attempt before it held, in the same windows, and beside it until that one is counted.
--   admitted, taken (another delivery was first), budget_exhausted (the windows have no room for it)
CREATE OR REPLACE FUNCTION admit_next(
    p_request text, p_attempt integer, p_project text, p_key text, p_operation text, p_model text, p_provider text,
    p_upstream_model text, p_metadata text, p_cache_key bytea, p_hold bigint, p_budget_day date, p_reply_to text,
    p_at timestamptz, p_deadline timestamptz, p_delivery integer, p_worker text, p_installation boolean
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_scopes  CONSTANT text[] := ARRAY['key', 'project'];
    v_ids     CONSTANT text[] := ARRAY[p_key, p_project];
    v_limited boolean[] := (SELECT array_agg(l.is_limited ORDER BY l.place) FROM limits_of(v_scopes, v_ids) AS l);
    v_free    bigint;
BEGIN
    PERFORM lock_meters(v_scopes, v_ids, v_limited);
    PERFORM 1 FROM inflight WHERE request_id = p_request ORDER BY attempt FOR UPDATE;
    IF EXISTS (SELECT 1 FROM inflight
               WHERE request_id = p_request AND (attempt >= p_attempt OR delivery > p_delivery)) THEN
        RETURN 'taken';
    END IF;
    SELECT min(w.free) INTO v_free
        FROM limits_of(v_scopes, v_ids) AS l
        JOIN taken_of(v_scopes, v_ids, ARRAY[true, true], p_budget_day) AS t ON t.place = l.place
        CROSS JOIN LATERAL (
            VALUES (l.daily - t.day_taken - t.day_held), (l.monthly - t.month_taken - t.month_held),
                   (CASE WHEN p_installation THEN l.installation END - t.day_taken - t.day_held)
        ) AS w (free);
    IF p_hold > v_free THEN
        RETURN 'budget_exhausted';
    END IF;
    UPDATE inflight SET cache_key = NULL WHERE request_id = p_request AND cache_key IS NOT NULL;
    IF EXISTS (SELECT 1 FROM inflight WHERE project_id = p_project AND cache_key = p_cache_key) THEN
        p_cache_key := NULL;                                -- another request leads by now
    END IF;
    INSERT INTO inflight VALUES (p_request, p_attempt, p_project, p_key, p_operation, p_model, p_provider,
        p_upstream_model, p_metadata::json, p_cache_key, p_hold, 0, p_budget_day, p_reply_to, p_at, p_deadline,
        p_delivery, p_worker);
    RETURN 'admitted';
EXCEPTION WHEN unique_violation THEN
    RETURN 'taken';
END $$;

-- Release the holds of attempts whose outcome is counted in this transaction, and charge the token limits what was really
-- used (p_tokens; -1: nobody knows, what was charged stands). Locks meters before rows, as admission does. A key that was
-- answered with far more than its limit is in debt for a day at most.
CREATE OR REPLACE FUNCTION settle(p_requests text[], p_attempts integer[], p_keys text[], p_tokens bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c_day CONSTANT bigint := 86400000000000;
    v_now bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000;
BEGIN
    PERFORM 1 FROM meters m JOIN api_keys k ON k.key_id = m.scope_id AND k.token_limit IS NOT NULL
        WHERE m.scope = 'key' AND m.scope_id = ANY (p_keys) ORDER BY m.scope_id FOR NO KEY UPDATE OF m;
    WITH ended AS (
        DELETE FROM inflight f USING unnest(p_requests, p_attempts, p_tokens) AS e (r, a, tokens)
        WHERE f.request_id = ANY (p_requests) AND f.request_id = e.r AND f.attempt = e.a
        RETURNING f.key_id, CASE WHEN e.tokens >= 0 THEN e.tokens - f.token_bound ELSE 0 END AS more
    )
    UPDATE meters m SET tokens_tat = greatest(0, least(
            m.tokens_tat + s.more * ((60000000000 + k.token_limit - 1) / k.token_limit),
            greatest(m.tokens_tat, v_now + c_day)))
        FROM (SELECT ended.key_id, sum(ended.more::numeric) AS more FROM ended GROUP BY ended.key_id) AS s
        JOIN api_keys k ON k.key_id = s.key_id AND k.token_limit IS NOT NULL
        WHERE m.scope = 'key' AND m.scope_id = s.key_id AND s.more <> 0;
END $$;
