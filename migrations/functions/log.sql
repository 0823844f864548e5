-- Appending to the log. See infra/event_log.py.

-- For an append of the release before that is under way while the functions are replaced.
CREATE OR REPLACE FUNCTION array_to_bytes(p_parts bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(part, '' ORDER BY i) FROM unnest(p_parts) WITH ORDINALITY AS parts (part, i)
$$;

-- The chain's digest after a batch of events.
CREATE OR REPLACE FUNCTION next_in_chain(p_chain bytea, p_events appended_event[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(p_chain || string_agg(e.digest, '' ORDER BY e.i))
    FROM unnest(p_events) WITH ORDINALITY AS e (commit, stream, version, type, project_id, at, data, digest, i)
$$;

-- Returns whether a stream has the version before this one at an earlier position. Every stream begins with version 1.
CREATE OR REPLACE FUNCTION has_version_before(p_stream text, p_version integer, p_position bigint)
RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN p_version = 1 OR EXISTS (
        SELECT 1 FROM events WHERE stream = p_stream AND version = p_version - 1 AND position < p_position);
END $$;

-- Appends several commits as one batch. The events of a commit, whose numbers are 1, 1, 2, 3, 3 …, are appended together or
-- not at all. If a commit's stream is not at the version before its first event, only that commit is refused. Returns the
-- position of each commit's last event; NULL if the commit was refused.
CREATE OR REPLACE FUNCTION append_events(p_events appended_event[], p_blobs appended_blob[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_head    bigint;
    v_chain   bytea;
    v_next    bytea;
    v_last    integer := cardinality(p_events);
    v_commits integer := p_events[cardinality(p_events)].commit;
    v_first   integer := 1;
    v_taken   text;
    v_event   appended_event;
    v_commit  integer := 0;
    v_result  bigint[] := array_fill(NULL::bigint, ARRAY[p_events[cardinality(p_events)].commit]);
BEGIN
    SELECT position, digest INTO STRICT v_head, v_chain FROM log_head FOR NO KEY UPDATE;
    BEGIN                                                   -- nearly always, no commit is refused
        v_next := next_in_chain(v_chain, p_events);
        INSERT INTO events (position, stream, version, type, project_id, at, data, digest, chain)
            SELECT v_head + e.i, e.stream, e.version, e.type, e.project_id, e.at, e.data::json, e.digest,
                   CASE WHEN e.i = v_last THEN v_next END
            FROM unnest(p_events)
                WITH ORDINALITY AS e (commit, stream, version, type, project_id, at, data, digest, i);
        IF p_blobs <> '{}' THEN
            INSERT INTO blobs (blob_id, project_id, body, expires_at)
                SELECT b.blob_id, b.project_id, b.body, b.expires_at FROM unnest(p_blobs) AS b;
        END IF;
        FOR i IN 1 .. v_last LOOP
            v_event := p_events[i];
            IF v_event.version > 1 AND v_event.commit <> v_commit
                    AND NOT has_version_before(v_event.stream, v_event.version, v_head + i) THEN
                RAISE unique_violation;                     -- the commit is ahead of its stream
            END IF;
            v_commit := v_event.commit;
            v_result[v_commit] := v_head + i;
        END LOOP;
        v_head := v_head + v_last;
        v_chain := v_next;
    EXCEPTION WHEN unique_violation THEN                    -- append the commits one by one, each as a batch
        FOR c IN 1 .. v_commits LOOP
            v_last := v_first;
            WHILE v_last < cardinality(p_events) AND p_events[v_last + 1].commit = c LOOP
                v_last := v_last + 1;
            END LOOP;
            BEGIN
                v_next := next_in_chain(v_chain, p_events[v_first:v_last]);
                INSERT INTO events (position, stream, version, type, project_id, at, data, digest, chain)
                    SELECT v_head + e.i, e.stream, e.version, e.type, e.project_id, e.at, e.data::json, e.digest,
                           CASE WHEN e.i = v_last - v_first + 1 THEN v_next END
                    FROM unnest(p_events[v_first:v_last])
                        WITH ORDINALITY AS e (commit, stream, version, type, project_id, at, data, digest, i);
                IF NOT has_version_before(p_events[v_first].stream, p_events[v_first].version, v_head + 1) THEN
                    RAISE unique_violation;
                END IF;
                INSERT INTO blobs (blob_id, project_id, body, expires_at)
                    SELECT b.blob_id, b.project_id, b.body, b.expires_at FROM unnest(p_blobs) AS b
                    WHERE b.commit = c;
                v_head := v_head + v_last - v_first + 1;
                v_chain := v_next;
                v_result[c] := v_head;
            EXCEPTION WHEN unique_violation THEN            -- refused: its element stays NULL
                GET STACKED DIAGNOSTICS v_taken = CONSTRAINT_NAME;
                IF v_taken = 'events_pkey' THEN
                    RAISE EXCEPTION 'the log has an event beyond its head, at a position after %', v_head
                        USING ERRCODE = 'data_corrupted';
                END IF;
            END;
            v_first := v_last + 1;
        END LOOP;
    END;
    UPDATE log_head SET position = v_head, digest = v_chain;
    RETURN v_result;
END $$;

-- Stores a body that no event names.
CREATE OR REPLACE FUNCTION store_blob(p_blob text, p_project text, p_body bytea, p_expires_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO blobs (blob_id, project_id, body, expires_at) VALUES (p_blob, p_project, p_body, p_expires_at)
$$;

-- Removes bodies that have expired, at most so many. Returns their number.
CREATE OR REPLACE FUNCTION remove_expired_blobs(p_limit integer) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM blobs WHERE blob_id IN (SELECT blob_id FROM blobs WHERE expires_at < now() LIMIT p_limit) RETURNING 1
    ) SELECT count(*) FROM gone
$$;

-- Appends as `append_events` does, and returns the head after it as well. The head's row is locked until the commit, so it
-- is the end of this batch.
CREATE OR REPLACE FUNCTION append_batch(
    p_events appended_event[], p_blobs appended_blob[], OUT positions bigint[], OUT head bigint, OUT digest bytea
) LANGUAGE plpgsql AS $$
BEGIN
    positions := append_events(p_events, p_blobs);
    SELECT h.position, h.digest INTO head, digest FROM log_head AS h;
END $$;

-- The same for processes of the release before, which hand over an array for each column.
CREATE OR REPLACE FUNCTION append_batch(
    p_commits integer[], p_streams text[], p_versions integer[], p_types text[], p_projects text[], p_at timestamptz[],
    p_data text[], p_digests bytea[], p_blob_commits integer[], p_blob_ids text[], p_blob_projects text[],
    p_blob_bodies bytea[], p_blob_expires timestamptz[],
    OUT positions bigint[], OUT head bigint, OUT digest bytea
) LANGUAGE sql AS $$
    SELECT b.positions, b.head, b.digest FROM append_batch(
        ARRAY(SELECT ROW (e.*)::appended_event
              FROM unnest(p_commits, p_streams, p_versions, p_types, p_projects, p_at, p_data, p_digests) AS e),
        ARRAY(SELECT ROW (e.*)::appended_blob
              FROM unnest(p_blob_commits, p_blob_ids, p_blob_projects, p_blob_bodies, p_blob_expires) AS e)
    ) AS b
$$;

-- Stores a signed head. Returns false if there is one of this sequence already: another signer was first.
CREATE OR REPLACE FUNCTION record_head(
    p_sequence bigint, p_position bigint, p_digest bytea, p_at timestamptz, p_previous bytea, p_resumes_after bigint,
    p_reason text, p_key_id text, p_signature bytea
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_heads (sequence, position, digest, at, previous, resumes_after, reason, key_id, signature)
        VALUES (p_sequence, p_position, p_digest, p_at, p_previous, p_resumes_after, p_reason, p_key_id, p_signature)
        ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;
