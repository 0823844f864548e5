-- Limits of keys and projects, and the usage that counts against them. See infra/admission.py.
--
-- PostgreSQL plans a statement once for each connection, perhaps while a table is empty, and keeps the plan. OFFSET 0 in
-- these files stops the planner from joining in the other order, which would scan the whole table in every later call.

-- Rate limits use the generic cell rate algorithm (GCRA). Returns the time after which one more unit is available.
CREATE OR REPLACE FUNCTION emission_interval_ns(p_per_minute bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (60000000000 + p_per_minute - 1) / p_per_minute
$$;

-- Returns nanoseconds since 1970, at the precision of a timestamp.
CREATE OR REPLACE FUNCTION epoch_ns(p_at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract(epoch FROM p_at) * 1000000)::bigint * 1000
$$;

-- Returns the limits of each account; NULL: no limit. A key's windows apply to the key; its project's windows apply to all
-- of its keys together. A project may have one more daily window, for requests under the installation's credentials.
-- `has_limits`: the account has any limit. `needs_usage`: it has a limit on spending or on requests in flight. For a key
-- also: the version of its stream, and the time at which it stops being valid.
CREATE OR REPLACE FUNCTION account_limits(p_scopes text[], p_ids text[])
RETURNS TABLE (
    account bigint, daily bigint, monthly bigint, installation_daily bigint, requests bigint, tokens bigint,
    concurrency bigint, has_limits boolean, needs_usage boolean, version integer, ends_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT a.i, l.daily, l.monthly, p.installation_daily_budget_nano_usd,
           k.rate_limit, k.token_limit, k.concurrency_limit,
           coalesce(l.daily, l.monthly, p.installation_daily_budget_nano_usd,
                    k.rate_limit, k.token_limit, k.concurrency_limit) IS NOT NULL,
           coalesce(l.daily, l.monthly, p.installation_daily_budget_nano_usd, k.concurrency_limit) IS NOT NULL,
           k.version, least(k.revoked_at, k.expires_at)
    FROM unnest(p_scopes, p_ids) WITH ORDINALITY AS a (scope, id, i)
    LEFT JOIN LATERAL (SELECT * FROM api_keys o WHERE a.scope = 'key' AND o.key_id = a.id OFFSET 0) AS k ON true
    LEFT JOIN LATERAL (
        SELECT * FROM projects o WHERE a.scope = 'project' AND o.project_id = a.id OFFSET 0
    ) AS p ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(k.daily_budget_nano_usd, p.daily_budget_nano_usd) AS daily,
               coalesce(k.monthly_budget_nano_usd, p.monthly_budget_nano_usd) AS monthly
    ) AS l
$$;

-- Returns a sum of money, at most 2 * 10^18. That is above every budget, and two such sums still fit into a bigint.
CREATE OR REPLACE FUNCTION within_bigint(p_nano_usd numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT least(coalesce(p_nano_usd, 0), 2000000000000000000)::bigint
$$;

-- Returns the amounts that count against the windows of each account on a day: `taken` is the spent and the assumed cost
-- from the projection, `held` is what the attempts in flight hold. Zeros for an account that is not `needed`. It is one
-- statement, hence one snapshot: the projector counts a cost and deletes its row in one transaction, and held amounts change
-- with the rows (migrations/sql/0015_held.sql). The row comparison of a balance can use only the primary key; the index by
-- day would read the balances of every account.
CREATE OR REPLACE FUNCTION account_usage(p_scopes text[], p_ids text[], p_needed boolean[], p_day date)
RETURNS TABLE (
    account bigint, day_taken bigint, month_taken bigint, day_held bigint, month_held bigint, requests_in_flight bigint
) LANGUAGE sql STABLE AS $$
    SELECT a.i,
           within_bigint((
               SELECT d.spent_nano_usd::numeric + d.assumed_nano_usd FROM budget_balances d
               WHERE a.needed AND (d.scope, d.scope_id, d.period, d.starts_on) >= (a.scope, a.id, 'day', p_day)
                 AND (d.scope, d.scope_id, d.period, d.starts_on) <= (a.scope, a.id, 'day', p_day))),
           within_bigint((
               SELECT m.spent_nano_usd::numeric + m.assumed_nano_usd FROM budget_balances m
               WHERE a.needed AND (m.scope, m.scope_id, m.period, m.starts_on) >= (a.scope, a.id, 'month', month.first_day)
                 AND (m.scope, m.scope_id, m.period, m.starts_on) <= (a.scope, a.id, 'month', month.first_day))),
           within_bigint(f.of_day), within_bigint(f.of_month), f.requests
    FROM unnest(p_scopes, p_ids, p_needed) WITH ORDINALITY AS a (scope, id, needed, i)
    CROSS JOIN LATERAL (SELECT date_trunc('month', p_day::timestamp)::date AS first_day) AS month
    CROSS JOIN LATERAL (
        SELECT sum(h.held_nano_usd) FILTER (WHERE h.budget_day = p_day) AS of_day,
               sum(h.held_nano_usd) FILTER (WHERE h.budget_day >= month.first_day
                                              AND h.budget_day < month.first_day + interval '1 month') AS of_month,
               coalesce(sum(h.requests), 0)::bigint AS requests
        FROM held_amounts h
        WHERE a.needed AND h.scope = a.scope AND h.scope_id = a.id
    ) AS f
    OFFSET 0                                                -- without it, each use of a column would sum again
$$;

-- Returns the accounts whose held amount is not the sum of their attempts in flight: none, unless somebody wrote past the
-- triggers. One statement, hence one snapshot.
CREATE OR REPLACE FUNCTION held_differences()
RETURNS TABLE (
    scope text, scope_id text, budget_day date, counted_nano_usd numeric, summed_nano_usd numeric,
    counted_requests numeric, summed_requests numeric
) LANGUAGE sql STABLE AS $$
    SELECT d.scope, d.scope_id, d.budget_day, sum(d.counted), sum(d.summed), sum(d.requests), sum(d.attempts)
    FROM (
        SELECT h.scope, h.scope_id, h.budget_day, h.held_nano_usd AS counted, 0 AS summed, h.requests, 0 AS attempts
        FROM held_amounts h
        UNION ALL
        SELECT a.scope, a.id, f.budget_day, 0, f.hold_nano_usd, 0, f.is_newest::integer
        FROM inflight f CROSS JOIN LATERAL (VALUES ('key', f.key_id), ('project', f.project_id)) AS a (scope, id)
    ) AS d
    GROUP BY d.scope, d.scope_id, d.budget_day
    HAVING sum(d.counted) <> sum(d.summed) OR sum(d.requests) <> sum(d.attempts)
    ORDER BY d.scope, d.scope_id, d.budget_day
$$;

-- Counts the held amounts anew from the attempts in flight, if they differ. No attempt begins or ends meanwhile.
CREATE OR REPLACE FUNCTION recount_held() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM held_differences()) THEN
        RETURN;
    END IF;
    LOCK TABLE inflight IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM held_amounts;
    INSERT INTO held_amounts (scope, scope_id, budget_day, share, held_nano_usd, requests)
        SELECT a.scope, a.id, f.budget_day, 0, sum(f.hold_nano_usd), count(*) FILTER (WHERE f.is_newest)
        FROM inflight AS f CROSS JOIN LATERAL (VALUES ('key', f.key_id), ('project', f.project_id)) AS a (scope, id)
        GROUP BY a.scope, a.id, f.budget_day;
END $$;

-- Removes the counters of days before one that hold nothing any more, those of `p_limit` accounts at most. Their rows are
-- locked before they are summed: what changes later finds none, and begins anew. Returns the number of rows.
CREATE OR REPLACE FUNCTION remove_past_held(p_before date, p_limit integer) RETURNS bigint LANGUAGE sql AS $$
    WITH past AS (
        SELECT h.scope, h.scope_id, h.budget_day FROM held_amounts h
        WHERE h.budget_day < p_before
        GROUP BY h.scope, h.scope_id, h.budget_day HAVING sum(h.held_nano_usd) = 0 AND sum(h.requests) = 0
        LIMIT p_limit
    ), locked AS MATERIALIZED (
        SELECT h.* FROM held_amounts h JOIN past USING (scope, scope_id, budget_day)
        ORDER BY h.scope, h.scope_id, h.budget_day, h.share
        FOR UPDATE OF h
    ), gone AS (
        DELETE FROM held_amounts h USING (
            SELECT l.scope, l.scope_id, l.budget_day FROM locked l
            GROUP BY l.scope, l.scope_id, l.budget_day HAVING sum(l.held_nano_usd) = 0 AND sum(l.requests) = 0
        ) AS e, locked AS l
        WHERE (l.scope, l.scope_id, l.budget_day) = (e.scope, e.scope_id, e.budget_day)
          AND (h.scope, h.scope_id, h.budget_day, h.share) = (l.scope, l.scope_id, l.budget_day, l.share)
        RETURNING 1
    ) SELECT count(*) FROM gone
$$;

-- Locks the meters of the accounts that have limits. The arrays must be in the order of (scope, scope_id), which is the
-- order of the locks. Returns the theoretical arrival times (GCRA); 0 for accounts without limits.
CREATE OR REPLACE FUNCTION lock_meters(
    p_scopes text[], p_ids text[], p_has_limits boolean[], OUT request_tats bigint[], OUT token_tats bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_locked integer;
BEGIN
    LOOP
        SELECT array_agg(coalesce(m.requests_tat, 0) ORDER BY a.i), array_agg(coalesce(m.tokens_tat, 0) ORDER BY a.i),
               count(m.scope)
            INTO request_tats, token_tats, v_locked
            FROM unnest(p_scopes, p_ids, p_has_limits) WITH ORDINALITY AS a (scope, id, has_limits, i)
            LEFT JOIN LATERAL (                             -- row by row, in the order of the arrays
                SELECT * FROM meters o WHERE a.has_limits AND o.scope = a.scope AND o.scope_id = a.id
                OFFSET 0 FOR NO KEY UPDATE
            ) AS m ON true;
        EXIT WHEN v_locked = cardinality(array_positions(p_has_limits, true));
        INSERT INTO meters (scope, scope_id)            -- an account's first limited request
            SELECT a.scope, a.id FROM unnest(p_scopes, p_ids, p_has_limits) AS a (scope, id, has_limits)
            WHERE a.has_limits ORDER BY a.scope, a.id
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Locks the accounts and returns the state that a decision needs. The arrays are in the order of the accounts. For the
-- tightest window of an account, `unspent` is the limit minus the taken amount, and `free` is `unspent` minus the held
-- amount; NULL: no window. The installation's window is separate, because only some requests count in it.
CREATE OR REPLACE FUNCTION load_accounts(
    p_now timestamptz, p_scopes text[], p_ids text[],
    OUT decided_at timestamptz, OUT now_ns bigint, OUT today date,
    OUT daily_limits bigint[], OUT monthly_limits bigint[], OUT installation_limits bigint[],
    OUT request_limits bigint[], OUT token_limits bigint[], OUT concurrency_limits bigint[],
    OUT has_limits boolean[], OUT versions integer[], OUT ends_at timestamptz[],
    OUT request_tats bigint[], OUT token_tats bigint[],
    OUT day_taken bigint[], OUT month_taken bigint[], OUT day_held bigint[], OUT month_held bigint[],
    OUT unspent bigint[], OUT free bigint[], OUT installation_unspent bigint[], OUT installation_free bigint[],
    OUT requests_in_flight bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    c_closed CONSTANT bigint := -1;                         -- a limit of 0 admits nothing, not even what costs nothing
    v_needs_usage boolean[];
    v_meters      record;
BEGIN
    SELECT array_agg(l.daily ORDER BY l.account), array_agg(l.monthly ORDER BY l.account),
           array_agg(l.installation_daily ORDER BY l.account), array_agg(l.requests ORDER BY l.account),
           array_agg(l.tokens ORDER BY l.account), array_agg(l.concurrency ORDER BY l.account),
           array_agg(l.has_limits ORDER BY l.account), array_agg(l.needs_usage ORDER BY l.account),
           array_agg(l.version ORDER BY l.account), array_agg(l.ends_at ORDER BY l.account)
        INTO daily_limits, monthly_limits, installation_limits, request_limits, token_limits, concurrency_limits,
             has_limits, v_needs_usage, versions, ends_at
        FROM account_limits(p_scopes, p_ids) AS l;
    ASSERT cardinality(has_limits) = cardinality(p_ids), 'an account has two rows';
    v_meters := lock_meters(p_scopes, p_ids, has_limits);
    request_tats := v_meters.request_tats;
    token_tats := v_meters.token_tats;

    decided_at := coalesce(p_now, clock_timestamp());       -- after the locks, so that an account's time never goes back
    now_ns := epoch_ns(decided_at);
    today := (decided_at AT TIME ZONE 'UTC')::date;
    IF true = ANY (v_needs_usage) THEN
        SELECT array_agg(u.day_taken ORDER BY u.account), array_agg(u.month_taken ORDER BY u.account),
               array_agg(u.day_held ORDER BY u.account), array_agg(u.month_held ORDER BY u.account),
               array_agg(least(l.daily - u.day_taken, l.monthly - u.month_taken,
                               CASE WHEN 0 IN (l.daily, l.monthly) THEN c_closed END) ORDER BY u.account),
               array_agg(least(l.daily - u.day_taken - u.day_held,
                               l.monthly - u.month_taken - u.month_held) ORDER BY u.account),
               array_agg(least(l.installation - u.day_taken,
                               CASE l.installation WHEN 0 THEN c_closed END) ORDER BY u.account),
               array_agg(l.installation - u.day_taken - u.day_held ORDER BY u.account),
               array_agg(u.requests_in_flight ORDER BY u.account)
            INTO day_taken, month_taken, day_held, month_held,
                 unspent, free, installation_unspent, installation_free, requests_in_flight
            FROM account_usage(p_scopes, p_ids, v_needs_usage, today) AS u
            CROSS JOIN LATERAL (SELECT daily_limits[u.account] AS daily, monthly_limits[u.account] AS monthly,
                                       installation_limits[u.account] AS installation) AS l;
    END IF;
END $$;
