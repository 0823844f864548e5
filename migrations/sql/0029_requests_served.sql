-- What answered a route comes from the log. The text is looked at first: few events have the name, and JSON is slow. The log
-- is long: all of it that is there is read before anything waits for this migration, the rest once the projector stands still.
CREATE TEMPORARY TABLE read_to ON COMMIT DROP AS SELECT position FROM projection_checkpoints WHERE projection = 'requests';
CREATE FUNCTION pg_temp.served(p_after bigint, p_to bigint)
RETURNS TABLE (request_id text, model text, project_id text, "position" bigint) LANGUAGE sql AS $$
    SELECT data ->> 'request_id', data ->> 'model', e.project_id, e.position
    FROM events e
    WHERE e.type IN ('RequestCompleted', 'RequestServedFromCache', 'RequestFailed', 'RequestRejected')
      AND e.data::text LIKE '%"asked_as":%' AND e.data ->> 'asked_as' IS NOT NULL
      AND e.position > p_after AND e.position <= p_to
$$;
CREATE TEMPORARY TABLE served ON COMMIT DROP AS SELECT s.* FROM read_to, pg_temp.served(0, read_to.position) AS s;

-- The projector stands still from here to the end: it moves its checkpoints before it folds.
SELECT position FROM projection_checkpoints FOR SHARE;

ALTER TABLE requests
    ADD COLUMN served_model text,                       -- the target's, of a request by a route or with fallbacks; NULL: `model`
    ADD COLUMN is_late boolean NOT NULL DEFAULT false;  -- its first event came more than an hour after its id was made
ALTER TYPE requests_row ADD ATTRIBUTE served_model text, ADD ATTRIBUTE is_late boolean;
-- Who looks for the requests of an hour finds them by their ids, and these few by this index.
CREATE INDEX requests_late ON requests (request_id) WHERE is_late;

-- The lowest id of a time, as infra/ids.py makes it.
CREATE FUNCTION pg_temp.first_request_id(p_at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'req_' || string_agg(
               substr('0123456789abcdefghjkmnpqrstvwxyz', ((ms >> shift) & 31)::integer + 1, 1), '' ORDER BY shift DESC
           ) || repeat('0', 16)
    FROM (SELECT greatest(floor(extract(epoch FROM p_at) * 1000), 0)::bigint AS ms) AS time,
         generate_series(0, 45, 5) AS shift
$$;

-- The hour of its first event rules out nearly all of them; what is left is looked at exactly.
UPDATE requests r SET is_late = true
    FROM (
        SELECT hour, pg_temp.first_request_id(hour) COLLATE "C" AS lowest_id
        FROM generate_series((SELECT date_trunc('hour', min(at), 'UTC') FROM requests), (SELECT max(at) FROM requests),
                             interval '1 hour') AS hour
    ) AS hours
    WHERE hours.hour = date_trunc('hour', r.at, 'UTC') AND r.request_id < hours.lowest_id
      AND r.request_id < pg_temp.first_request_id(r.at - interval '1 hour') COLLATE "C";

INSERT INTO served
    SELECT s.* FROM read_to, projection_checkpoints c, pg_temp.served(read_to.position, c.position) AS s
    WHERE c.projection = 'requests';
UPDATE requests r SET served_model = ended.model
    FROM (
        SELECT DISTINCT ON (s.request_id) s.request_id, s.model FROM served s
        WHERE NOT EXISTS (SELECT 1 FROM quarantined_projects q WHERE q.project_id = s.project_id AND q.position <= s.position)
        ORDER BY s.request_id, s.position DESC
    ) AS ended
    WHERE r.request_id = ended.request_id;
