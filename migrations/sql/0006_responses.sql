-- Whose an answer is that a request goes on from: under a shared credential, only the project's that was given it.
CREATE INDEX events_by_response ON events ((data ->> 'response_id'))
    WHERE type = 'RequestCompleted' AND data ->> 'operation' = 'responses';
