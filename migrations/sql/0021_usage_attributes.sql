-- Usage by what callers say of their requests: their metadata, and the session, the agent and the program that they come
-- from. A day's values are numbered, and so many are told apart; the others are summed up as number 0.

-- The projector stands still from here to the end: it moves its checkpoints before it folds.
SELECT position FROM projection_checkpoints FOR SHARE;

CREATE TABLE usage_attribute_values (
    project_id text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,            -- metadata.NAME, session, agent, client; '': the names of metadata
    day        date NOT NULL,
    number     integer NOT NULL,                     -- from 1, in the order of the log
    digest     bytea NOT NULL,                       -- of the value
    value      text NOT NULL,                        -- JSON
    PRIMARY KEY (project_id, name, day, number),
    UNIQUE (project_id, name, day, digest)
);
CREATE INDEX usage_attribute_values_by_day ON usage_attribute_values (name, day);  -- over all projects

CREATE TABLE usage_attributes (
    project_id           text COLLATE "C" NOT NULL,
    name                 text COLLATE "C" NOT NULL,
    day                  date NOT NULL,
    number               integer NOT NULL,           -- 0: the others
    key_id               text COLLATE "C" NOT NULL,
    completed_requests   bigint NOT NULL,
    cached_requests      bigint NOT NULL,
    failed_requests      bigint NOT NULL,
    prompt_tokens        bigint NOT NULL,
    completion_tokens    bigint NOT NULL,
    cost_nano_usd        bigint NOT NULL,
    assumed_nano_usd     bigint NOT NULL,
    saved_nano_usd       bigint NOT NULL,
    unpriced_requests    bigint NOT NULL,
    estimated_requests   bigint NOT NULL,
    lower_bound_requests bigint NOT NULL,
    PRIMARY KEY (project_id, name, day, number, key_id)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX usage_attributes_by_day ON usage_attributes (name, day);  -- over all projects

INSERT INTO projection_checkpoints (projection, position)
    SELECT 'attributes', position FROM projection_checkpoints WHERE projection = 'requests';

-- What was before comes from `requests`. A request whose events are on two days counts on its first; a rebuild counts
-- each event on its own day.
CREATE TEMPORARY TABLE past_attributes ON COMMIT DROP AS
    SELECT r.project_id, a.name, date_trunc('day', r.at, 'UTC')::date AS day, a.value, r.request_id, r.key_id, r.status,
           r.prompt_tokens, r.completion_tokens, r.cost_nano_usd, r.assumed_nano_usd, r.saved_nano_usd,
           r.tokens_estimated, r.cost_is_lower_bound
    FROM requests r
    CROSS JOIN LATERAL (
        SELECT 'metadata.' || m.key AS name, m.value::text AS value FROM json_each(r.metadata) AS m
        UNION ALL
        SELECT o.name, to_json(o.value)::text
        FROM (VALUES ('session', r.session), ('agent', r.agent), ('client', r.client)) AS o (name, value)
        WHERE o.value IS NOT NULL
    ) AS a;

CREATE TEMPORARY TABLE past_values ON COMMIT DROP AS
    SELECT project_id, name, day, value,
           row_number() OVER (PARTITION BY project_id, name, day ORDER BY min(request_id), value) AS number,
           count(*) AS requests
    FROM past_attributes GROUP BY project_id, name, day, value;

INSERT INTO usage_attribute_values (project_id, name, day, number, digest, value)
    SELECT project_id, name, day, number, sha256(convert_to(value, 'UTF8')), value FROM past_values WHERE number <= 1000;

INSERT INTO usage_attribute_values (project_id, name, day, number, digest, value)
    SELECT project_id, '', day, row_number() OVER (PARTITION BY project_id, day ORDER BY name),
           sha256(convert_to(name, 'UTF8')), name
    FROM (SELECT DISTINCT project_id, day, name FROM past_values WHERE name LIKE 'metadata.%') AS names;

INSERT INTO usage_attributes
    SELECT a.project_id, a.name, a.day, CASE WHEN v.number <= 1000 THEN v.number ELSE 0 END AS number, a.key_id,
           count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'cached'),
           count(*) FILTER (WHERE status = 'failed'), sum(prompt_tokens), sum(completion_tokens),
           coalesce(sum(cost_nano_usd), 0), sum(assumed_nano_usd), sum(saved_nano_usd),
           count(*) FILTER (WHERE status = 'completed' AND cost_nano_usd IS NULL),
           count(*) FILTER (WHERE tokens_estimated), count(*) FILTER (WHERE cost_is_lower_bound)
    FROM past_attributes a JOIN past_values v USING (project_id, name, day, value)
    GROUP BY a.project_id, a.name, a.day, 4, a.key_id;
