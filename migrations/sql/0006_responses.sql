-- Finds a response by the provider's id. A request may continue from a response, but under a shared credential only if the
-- response is its own project's.
CREATE INDEX events_by_response ON events ((data ->> 'response_id'))
    WHERE type = 'RequestCompleted' AND data ->> 'operation' = 'responses';
