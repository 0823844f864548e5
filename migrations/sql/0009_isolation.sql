-- What one project does is kept from the others: projects whose events cannot be folded are set aside, and admission
-- looks at a key once more.

-- Projects whose events the projector leaves out, from a position on, because one of them cannot be folded.
CREATE TABLE quarantined_projects (
    project_id text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL,                 -- of the first event that is left out
    folded     json NOT NULL,                   -- by projection: up to where the project's events are in its tables
    error      text NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE api_keys
    ADD COLUMN version    integer NOT NULL DEFAULT 1,   -- of the key's stream
    ADD COLUMN expires_at timestamptz;                  -- again from the settings, for admission
UPDATE api_keys k SET
    version = coalesce((SELECT max(e.version) FROM events e WHERE e.stream = 'key-' || k.key_id), 1),
    expires_at = (k.settings ->> 'expires_at')::timestamptz;

ALTER TABLE projects
    ADD COLUMN installation_daily_budget_nano_usd bigint,           -- for what is spent of the installation's credentials
    ADD COLUMN cancel_on_disconnect boolean NOT NULL DEFAULT false; -- whether a plain request ends when its caller leaves

ALTER TABLE providers
    ADD COLUMN replaces_builtin boolean NOT NULL DEFAULT false;     -- whether it may take the traffic of built-in names
