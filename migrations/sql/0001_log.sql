-- The event log: the only system of record. See domain/events.py for what is in it, infra/event_log.py for its use.

CREATE TABLE events (
    position   bigint PRIMARY KEY,              -- gapless, in commit order
    stream     text COLLATE "C" NOT NULL,
    version    integer NOT NULL CHECK (version >= 1),
    type       text COLLATE "C" NOT NULL,
    project_id text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    data       json NOT NULL,                   -- json, not jsonb: kept byte for byte
    digest     bytea NOT NULL,                  -- SHA-256 of the envelope and the data, made by the appender
    chain      bytea,                           -- on the last event of each batch: the head's digest after it
    UNIQUE (stream, version)
);
CREATE INDEX events_of_project ON events (project_id, position);
CREATE INDEX events_by_time ON events USING brin (at);

-- One row. Its lock puts appends in order, so nobody can see position n before n - 1.
CREATE TABLE log_head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL,
    digest   bytea NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
INSERT INTO log_head (position, digest) VALUES (0, sha256(''));

CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never rewritten: % on % refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER events_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();

-- Answers and large prompts, compressed and encrypted by the writer; events name them by id.
CREATE TABLE blobs (
    blob_id    text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL,
    body       bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
ALTER TABLE blobs ALTER COLUMN body SET STORAGE EXTERNAL;   -- already compressed
CREATE INDEX blobs_by_expiry ON blobs (expires_at);

CREATE FUNCTION array_to_bytes(p_parts bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(part, '' ORDER BY i) FROM unnest(p_parts) WITH ORDINALITY AS parts (part, i)
$$;

-- Append several commits as one batch. Each commit is a run of events that land together or not at all; a commit
-- whose (stream, version) is taken loses alone. Returns, per commit, the position of its last event, NULL if it lost.
CREATE FUNCTION append_events(
    p_commits integer[],        -- number of the commit that each event belongs to: 1, 1, 2, 3, 3 …
    p_streams text[], p_versions integer[], p_types text[], p_projects text[], p_at timestamptz[], p_data text[],
    p_digests bytea[],
    p_blob_commits integer[], p_blob_ids text[], p_blob_projects text[], p_blob_bodies bytea[],
    p_blob_expires timestamptz[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_head    bigint;
    v_chain   bytea;
    v_next    bytea;
    v_last    integer := cardinality(p_commits);
    v_commits integer := p_commits[cardinality(p_commits)];
    v_first   integer := 1;
    v_result  bigint[] := array_fill(NULL::bigint, ARRAY[p_commits[cardinality(p_commits)]]);
BEGIN
    SELECT position, digest INTO STRICT v_head, v_chain FROM log_head FOR NO KEY UPDATE;
    BEGIN                                                   -- nearly always all of them land
        v_next := sha256(v_chain || array_to_bytes(p_digests));
        INSERT INTO events
            SELECT v_head + i, s, v, t, p, a, d::json, g, CASE WHEN i = v_last THEN v_next END
            FROM unnest(p_streams, p_versions, p_types, p_projects, p_at, p_data, p_digests)
                WITH ORDINALITY AS e (s, v, t, p, a, d, g, i);
        INSERT INTO blobs SELECT * FROM unnest(p_blob_ids, p_blob_projects, p_blob_bodies, p_blob_expires);
        FOR i IN 1 .. v_last LOOP
            v_result[p_commits[i]] := v_head + i;
        END LOOP;
        v_head := v_head + v_last;
        v_chain := v_next;
    EXCEPTION WHEN unique_violation THEN                    -- one commit at a time, each a batch of its own
        FOR c IN 1 .. v_commits LOOP
            v_last := v_first;
            WHILE v_last < cardinality(p_commits) AND p_commits[v_last + 1] = c LOOP
                v_last := v_last + 1;
            END LOOP;
            BEGIN
                v_next := sha256(v_chain || array_to_bytes(p_digests[v_first:v_last]));
                INSERT INTO events
                    SELECT v_head + i, s, v, t, p, a, d::json, g, CASE WHEN i = v_last - v_first + 1 THEN v_next END
                    FROM unnest(p_streams[v_first:v_last], p_versions[v_first:v_last], p_types[v_first:v_last],
                                p_projects[v_first:v_last], p_at[v_first:v_last], p_data[v_first:v_last],
                                p_digests[v_first:v_last])
                        WITH ORDINALITY AS e (s, v, t, p, a, d, g, i);
                INSERT INTO blobs
                    SELECT b, p, y, x
                    FROM unnest(p_blob_commits, p_blob_ids, p_blob_projects, p_blob_bodies, p_blob_expires)
                        AS n (c_of, b, p, y, x)
                    WHERE c_of = c;
                v_head := v_head + v_last - v_first + 1;
                v_chain := v_next;
                v_result[c] := v_head;
            EXCEPTION WHEN unique_violation THEN
                NULL;                                       -- lost: its element stays NULL
            END;
            v_first := v_last + 1;
        END LOOP;
    END;
    UPDATE log_head SET position = v_head, digest = v_chain;
    RETURN v_result;
END $$;
