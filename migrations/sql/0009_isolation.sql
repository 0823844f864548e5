-- Isolation of projects: a project whose events cannot be folded does not stop the others, and admission checks a key again.

-- Projects that the projector leaves out from a position on, because the event there cannot be folded.
CREATE TABLE quarantined_projects (
    project_id text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL,                 -- the first event that is left out
    folded     json NOT NULL,                   -- by projection: the position up to which the project's events are folded
    error      text NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE api_keys
    ADD COLUMN version    integer NOT NULL DEFAULT 1,   -- the version of the key's stream
    ADD COLUMN expires_at timestamptz;                  -- a copy from the settings, for admission
UPDATE api_keys k SET
    version = coalesce((SELECT max(e.version) FROM events e WHERE e.stream = 'key-' || k.key_id), 1),
    expires_at = (k.settings ->> 'expires_at')::timestamptz;

ALTER TABLE projects
    ADD COLUMN installation_daily_budget_nano_usd bigint,           -- for requests under the installation's credentials
    ADD COLUMN cancel_on_disconnect boolean NOT NULL DEFAULT false; -- true: a disconnect ends a plain request, too

ALTER TABLE providers
    ADD COLUMN replaces_builtin boolean NOT NULL DEFAULT false;     -- true: it may serve model names of built-in providers
