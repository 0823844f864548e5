-- The projector stands still from here to the end: it moves its checkpoints before it folds.
SELECT position FROM projection_checkpoints FOR SHARE;

-- Requests that a budget refused, by day, key and window: how often, and the figures of the last of them. A key that goes
-- on asking is one row, not a million.
CREATE TABLE usage_refusals (
    project_id      text COLLATE "C" NOT NULL,
    day             date NOT NULL,              -- of the refusal, in UTC
    key_id          text COLLATE "C" NOT NULL,
    window_name     text COLLATE "C" NOT NULL,  -- as RequestRejected has it
    requests        bigint NOT NULL,
    last_position   bigint NOT NULL,            -- in the log; this and what follows: of the last refusal
    last_at         timestamptz NOT NULL,
    last_request_id text COLLATE "C" NOT NULL,
    limit_nano_usd  bigint NOT NULL,
    taken_nano_usd  bigint NOT NULL,
    held_nano_usd   bigint NOT NULL,
    asked_nano_usd  bigint NOT NULL,
    PRIMARY KEY (project_id, day, key_id, window_name)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX usage_refusals_by_day ON usage_refusals (day);

-- The projector goes on from here. What was before comes from the log, in which refusals are indexed. What a quarantine
-- leaves out is folded at its end.
INSERT INTO projection_checkpoints (projection, position)
    SELECT 'refusals', position FROM projection_checkpoints WHERE projection = 'usage';

INSERT INTO usage_refusals
    SELECT DISTINCT ON (project_id, day, key_id, window_name)
           project_id, day, key_id, window_name,
           count(*) OVER (PARTITION BY project_id, day, key_id, window_name),
           position, at, data ->> 'request_id', (data ->> 'limit_nano_usd')::bigint, (data ->> 'taken_nano_usd')::bigint,
           (data ->> 'held_nano_usd')::bigint, (data ->> 'asked_nano_usd')::bigint
    FROM (
        SELECT project_id, (at AT TIME ZONE 'UTC')::date AS day, data ->> 'key_id' AS key_id,
               data ->> 'window' AS window_name, position, at, data
        FROM events e
        WHERE type = 'RequestRejected'
          AND NOT EXISTS (SELECT 1 FROM quarantined_projects q WHERE q.project_id = e.project_id AND q.position <= e.position)
          AND position <= (SELECT position FROM projection_checkpoints WHERE projection = 'refusals')
    ) AS refused
    ORDER BY project_id, day, key_id, window_name, position DESC;
