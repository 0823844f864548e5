-- Attempts that workers ask providers about. See workers/settlements.py.

-- Takes attempts that are due to be asked for, at most so many, for one worker. p_waits_s: before each time, in seconds, and
-- so how often at the most. Those that ended longer ago than p_within_s are left alone. Two workers that look at the same
-- moment may both get one: that is one question too many, and no cost.
CREATE OR REPLACE FUNCTION take_settlements(p_limit integer, p_waits_s double precision[], p_within_s double precision)
RETURNS TABLE (request_id text, attempt integer, project_id text) LANGUAGE sql AS $$
    WITH due AS (
        SELECT s.request_id, s.attempt, s.project_id, coalesce(t.tries, 0) AS tries
        FROM settlements s LEFT JOIN settlement_tries t ON t.request_id = s.request_id AND t.attempt = s.attempt
        WHERE s.ended_at > now() - make_interval(secs => p_within_s)
          AND coalesce(t.tries, 0) < cardinality(p_waits_s)
          AND coalesce(t.due_at, s.ended_at + make_interval(secs => p_waits_s[1])) <= now()
        ORDER BY s.ended_at LIMIT p_limit FOR UPDATE OF s SKIP LOCKED
    ), tried AS (
        INSERT INTO settlement_tries AS t (request_id, attempt, tries, due_at)
            SELECT d.request_id, d.attempt, d.tries + 1,
                   now() + make_interval(secs => coalesce(p_waits_s[d.tries + 2], 0))
            FROM due d
            ON CONFLICT ON CONSTRAINT settlement_tries_pkey DO UPDATE SET tries = excluded.tries, due_at = excluded.due_at
    ), old AS (
        DELETE FROM settlement_tries t WHERE t.due_at < now() - make_interval(secs => p_within_s)
          AND EXISTS (SELECT 1 FROM due)                    -- seldom: only if there is something to do
    ) SELECT d.request_id, d.attempt, d.project_id FROM due d
$$;

-- Asks for an attempt no more: its provider will never say.
CREATE OR REPLACE FUNCTION end_tries(p_request text, p_attempt integer) RETURNS void LANGUAGE sql AS $$
    UPDATE settlement_tries SET tries = 2147483647 WHERE request_id = p_request AND attempt = p_attempt
$$;
