-- Where requests come from, as their clients say: dimensions of usage.
ALTER TABLE requests
    ADD COLUMN session text COLLATE "C",
    ADD COLUMN agent   text COLLATE "C",
    ADD COLUMN client  text COLLATE "C";
CREATE INDEX requests_of_session ON requests (project_id, session, request_id) WHERE session IS NOT NULL;
