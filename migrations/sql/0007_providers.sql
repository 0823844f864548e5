-- Providers by configuration, folded in the append of their own events: the next request can use them. Their keys are in
-- provider_keys, under the same project and name.
CREATE TABLE providers (
    project_id    text COLLATE "C" NOT NULL,    -- 'installation': every project may use it
    name          text COLLATE "C" NOT NULL,
    kind          text NOT NULL,
    base_url      text NOT NULL,
    models        text[],                       -- NULL: any model
    hint          text NOT NULL,
    configured_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, name)
);
