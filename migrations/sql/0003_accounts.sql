-- Projects and API keys, folded in the append of their own events: a key works, and stops working, the moment its call
-- returns. What follows from no event (secrets) stands in tables of its own.

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
    daily_budget_nano_usd   bigint,             -- these again from the settings, for admission
    monthly_budget_nano_usd bigint,
    rate_limit              bigint,
    token_limit             bigint,
    concurrency_limit       bigint
);
CREATE INDEX api_keys_of_project ON api_keys (project_id);

-- The providers' keys that projects bring, sealed under the installation's key.
CREATE TABLE provider_keys (
    project_id text COLLATE "C" NOT NULL,
    provider   text NOT NULL,
    sealed     bytea NOT NULL,
    hint       text NOT NULL,
    PRIMARY KEY (project_id, provider)
);

-- The key that a project's blobs are encrypted under, itself sealed. Erasing it erases their content.
CREATE TABLE project_secrets (
    project_id text COLLATE "C" PRIMARY KEY,
    sealed     bytea NOT NULL
);
