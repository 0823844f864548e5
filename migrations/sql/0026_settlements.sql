-- What a request's client says of it: JSON, as `Said` in domain/request_identity.py has it. The events of those that have the
-- row and not the job say it too. NULL: nothing.
ALTER TABLE inflight ADD COLUMN said json;

-- The projector stands still from here to the end: it moves its checkpoints before it folds.
SELECT position FROM projection_checkpoints FOR SHARE;

-- Attempts whose provider keeps the response, and whose true cost is not known: it is asked.
CREATE TABLE settlements (
    request_id text COLLATE "C" NOT NULL,
    attempt    integer NOT NULL,
    project_id text COLLATE "C" NOT NULL,
    ended_at   timestamptz NOT NULL,
    PRIMARY KEY (request_id, attempt)
);
CREATE INDEX settlements_by_end ON settlements (ended_at);

-- How often workers have asked, and when they ask again. No read model: it is not in the log.
CREATE TABLE settlement_tries (
    request_id text COLLATE "C" NOT NULL,
    attempt    integer NOT NULL,
    tries      integer NOT NULL,
    due_at     timestamptz NOT NULL,
    PRIMARY KEY (request_id, attempt)
);

-- No event before this release says how a provider is asked.
INSERT INTO projection_checkpoints (projection, position)
    SELECT 'settlements', position FROM projection_checkpoints WHERE projection = 'usage';
