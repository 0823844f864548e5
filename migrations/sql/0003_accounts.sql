-- Projects and API keys, folded in the append of their own events: a key works, or stops working, once its call has
-- returned. Secrets are not in events, so they have their own tables.

CREATE TABLE projects (
    project_id text COLLATE "C" PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL,
    daily_budget_nano_usd   bigint,
    monthly_budget_nano_usd bigint,
    alert_url  text
);

CREATE TABLE api_keys (
    key_id      text COLLATE "C" PRIMARY KEY,
    project_id  text COLLATE "C" NOT NULL,
    secret_hash bytea NOT NULL UNIQUE,
    hint        text NOT NULL,
    settings    json NOT NULL,                  -- domain.events.KeySettings
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    daily_budget_nano_usd   bigint,             -- copies from the settings, for admission
    monthly_budget_nano_usd bigint,
    rate_limit              bigint,
    token_limit             bigint,
    concurrency_limit       bigint
);
CREATE INDEX api_keys_of_project ON api_keys (project_id);

-- Provider keys of projects, sealed under the installation's key.
CREATE TABLE provider_keys (
    project_id text COLLATE "C" NOT NULL,
    provider   text NOT NULL,
    sealed     bytea NOT NULL,
    hint       text NOT NULL,
    PRIMARY KEY (project_id, provider)
);

-- The sealed key that encrypts a project's blobs. Erasing it erases their content.
CREATE TABLE project_secrets (
    project_id text COLLATE "C" PRIMARY KEY,
    sealed     bytea NOT NULL
);
