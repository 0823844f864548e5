-- Providers by configuration, folded in the append of their own events: they can be asked from the next request on.
-- Their keys stand in provider_keys, under the same project and name.
CREATE TABLE providers (
    project_id    text COLLATE "C" NOT NULL,    -- 'installation': everybody's
    name          text COLLATE "C" NOT NULL,
    kind          text NOT NULL,
    base_url      text NOT NULL,
    models        text[],                       -- NULL: any
    hint          text NOT NULL,
    configured_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, name)
);
