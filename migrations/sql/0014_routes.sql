-- Routes, folded in the append of their own events: the next request can ask for them.
CREATE TABLE routes (
    project_id text COLLATE "C" NOT NULL,       -- 'installation': of every project that has none of the name
    name       text COLLATE "C" NOT NULL,
    settings   json NOT NULL,                   -- domain.routes.RouteSettings
    set_at     timestamptz NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- A provider has any number of credentials, each with a name and its share of the calls.
ALTER TABLE provider_keys
    ADD COLUMN name   text COLLATE "C" NOT NULL DEFAULT 'default',
    ADD COLUMN weight integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT provider_keys_pkey,
    ADD PRIMARY KEY (project_id, provider, name);
