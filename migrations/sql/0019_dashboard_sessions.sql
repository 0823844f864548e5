-- Who is signed in to the dashboard. Of a session's token, and of the key or master key that opened it, only hashes are here.
CREATE TABLE dashboard_sessions (
    token_hash      bytea PRIMARY KEY,
    session_id      text COLLATE "C" NOT NULL UNIQUE,   -- names it where sessions are listed; opens nothing
    project_id      text COLLATE "C",                   -- NULL: the operator's
    key_id          text COLLATE "C",
    credential_hash bytea NOT NULL,
    client          text NOT NULL,                      -- what the browser calls itself
    opened_at       timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    CHECK ((project_id IS NULL) = (key_id IS NULL))
);
CREATE INDEX dashboard_sessions_of_credential ON dashboard_sessions (credential_hash, opened_at);
CREATE INDEX dashboard_sessions_by_expiry ON dashboard_sessions (expires_at);
