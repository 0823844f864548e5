-- Signed heads of the log: that it had this digest at this position. domain/log_head.py has what is signed, and with which key.
-- Whoever owns the database can remove these rows, but not forge one: the key is outside the database, and so are the copies.
CREATE TABLE log_heads (
    sequence      bigint PRIMARY KEY CHECK (sequence >= 1),
    position      bigint NOT NULL CHECK (position >= 0),
    digest        bytea NOT NULL,
    at            timestamptz NOT NULL,
    previous      bytea NOT NULL,               -- the hash of the head before this one
    resumes_after bigint,                       -- after a restore: the sequence of the last head that the backup has
    reason        text NOT NULL DEFAULT '',     -- of the restore
    key_id        text COLLATE "C" NOT NULL,
    signature     bytea NOT NULL
);
CREATE TRIGGER heads_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON log_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
