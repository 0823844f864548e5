-- The sessions of the dashboard. Expired ones, and the oldest of a credential beyond so many, go as another one is opened.

CREATE OR REPLACE FUNCTION open_dashboard_session(
    p_token_hash bytea, p_session text, p_project text, p_key text, p_credential_hash bytea, p_client text,
    p_lifetime_s integer, p_most integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dashboard_sessions WHERE token_hash IN (
        SELECT token_hash FROM dashboard_sessions WHERE expires_at < now() ORDER BY expires_at LIMIT 1000
        FOR UPDATE SKIP LOCKED
    );
    DELETE FROM dashboard_sessions WHERE token_hash IN (
        SELECT token_hash FROM dashboard_sessions WHERE credential_hash = p_credential_hash
        ORDER BY opened_at DESC OFFSET greatest(p_most - 1, 0)
        FOR UPDATE SKIP LOCKED
    );
    INSERT INTO dashboard_sessions
        VALUES (p_token_hash, p_session, p_project, p_key, p_credential_hash, p_client, now(),
                now() + make_interval(secs => p_lifetime_s));
END $$;

-- Ends a session. p_project, p_key: whose it must be; NULL: anybody's. False: there is no such session.
CREATE OR REPLACE FUNCTION end_dashboard_session(p_session text, p_project text, p_key text)
RETURNS boolean LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM dashboard_sessions
        WHERE session_id = p_session AND (p_project IS NULL OR project_id = p_project) AND (p_key IS NULL OR key_id = p_key)
        RETURNING 1
    ) SELECT EXISTS (SELECT 1 FROM gone)
$$;
