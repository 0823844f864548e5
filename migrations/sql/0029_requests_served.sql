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

-- What answered a route comes from the log. The text is looked at first: few events have the name, and JSON is slow.
UPDATE requests r SET served_model = ended.model
    FROM (
        SELECT DISTINCT ON (data ->> 'request_id') data ->> 'request_id' AS request_id, data ->> 'model' AS model
        FROM events e
        WHERE type IN ('RequestCompleted', 'RequestServedFromCache', 'RequestFailed', 'RequestRejected')
          AND data::text LIKE '%"asked_as":%' AND data ->> 'asked_as' IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM quarantined_projects q WHERE q.project_id = e.project_id AND q.position <= e.position)
          AND position <= (SELECT position FROM projection_checkpoints WHERE projection = 'requests')
        ORDER BY data ->> 'request_id', position DESC
    ) AS ended
    WHERE r.request_id = ended.request_id;
