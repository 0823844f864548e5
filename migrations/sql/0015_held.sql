-- The held amounts as counters, so that a decision does not read a row for each attempt in flight. A statement that adds, ends
-- or changes attempts changes them in its own transaction, whatever the statement is, so every snapshot has both or neither.
--
-- A backend counts in a row of its own share of an account's day, so that processes do not wait for each other. The amount
-- of one row may be negative: only their sum means something. See docs/decisions/0037-held-is-counted.md.
CREATE TABLE held_amounts (
    scope         text COLLATE "C" NOT NULL,    -- key, project
    scope_id      text COLLATE "C" NOT NULL,
    budget_day    date NOT NULL,
    share         smallint NOT NULL,
    held_nano_usd numeric NOT NULL,
    requests      bigint NOT NULL,              -- those in flight, each counted with its newest attempt
    PRIMARY KEY (scope, scope_id, budget_day, share)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX held_amounts_by_day ON held_amounts (budget_day);              -- to remove past days

ALTER TABLE inflight ADD COLUMN is_newest boolean NOT NULL DEFAULT true;    -- false: a later attempt of its request is made
DROP INDEX inflight_by_key, inflight_by_project;                            -- read for the sums alone

UPDATE inflight f SET is_newest = false
    WHERE EXISTS (SELECT 1 FROM inflight l WHERE l.request_id = f.request_id AND l.attempt > f.attempt);
INSERT INTO held_amounts (scope, scope_id, budget_day, share, held_nano_usd, requests)
    SELECT a.scope, a.id, f.budget_day, 0, sum(f.hold_nano_usd), count(*) FILTER (WHERE f.is_newest)
    FROM inflight AS f CROSS JOIN LATERAL (VALUES ('key', f.key_id), ('project', f.project_id)) AS a (scope, id)
    GROUP BY a.scope, a.id, f.budget_day;

CREATE FUNCTION count_held() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c_shares CONSTANT integer := 16;
    v_sign   CONSTANT integer := CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END;
BEGIN
    INSERT INTO held_amounts AS h (scope, scope_id, budget_day, share, held_nano_usd, requests)
        SELECT a.scope, a.id, c.budget_day, pg_backend_pid() % c_shares,
               v_sign * sum(c.hold_nano_usd), v_sign * count(*) FILTER (WHERE c.is_newest)
        FROM changed AS c CROSS JOIN LATERAL (VALUES ('key', c.key_id), ('project', c.project_id)) AS a (scope, id)
        GROUP BY a.scope, a.id, c.budget_day
        ORDER BY a.scope COLLATE "C", a.id, c.budget_day    -- one order for all, or two could deadlock
        ON CONFLICT (scope, scope_id, budget_day, share) DO UPDATE
            SET held_nano_usd = h.held_nano_usd + excluded.held_nano_usd, requests = h.requests + excluded.requests;
    RETURN NULL;
END $$;
CREATE TRIGGER attempts_are_held AFTER INSERT ON inflight
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_held();
CREATE TRIGGER attempts_are_released AFTER DELETE ON inflight
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_held();

CREATE FUNCTION move_held() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c_shares CONSTANT integer := 16;
BEGIN
    INSERT INTO held_amounts AS h (scope, scope_id, budget_day, share, held_nano_usd, requests)
        SELECT a.scope, a.id, a.budget_day, pg_backend_pid() % c_shares, sum(a.amount), sum(a.requests)
        FROM (VALUES ('key', OLD.key_id, OLD.budget_day, -OLD.hold_nano_usd::numeric, -OLD.is_newest::integer),
                     ('key', NEW.key_id, NEW.budget_day, NEW.hold_nano_usd::numeric, NEW.is_newest::integer),
                     ('project', OLD.project_id, OLD.budget_day, -OLD.hold_nano_usd::numeric, -OLD.is_newest::integer),
                     ('project', NEW.project_id, NEW.budget_day, NEW.hold_nano_usd::numeric, NEW.is_newest::integer)
             ) AS a (scope, id, budget_day, amount, requests)
        GROUP BY a.scope, a.id, a.budget_day
        ORDER BY a.scope COLLATE "C", a.id, a.budget_day
        ON CONFLICT (scope, scope_id, budget_day, share) DO UPDATE
            SET held_nano_usd = h.held_nano_usd + excluded.held_nano_usd, requests = h.requests + excluded.requests;
    RETURN NULL;
END $$;
CREATE TRIGGER attempts_are_changed
    AFTER UPDATE OF hold_nano_usd, budget_day, key_id, project_id, is_newest ON inflight FOR EACH ROW
    WHEN ((OLD.hold_nano_usd, OLD.budget_day, OLD.key_id, OLD.project_id, OLD.is_newest)
          IS DISTINCT FROM (NEW.hold_nano_usd, NEW.budget_day, NEW.key_id, NEW.project_id, NEW.is_newest))
    EXECUTE FUNCTION move_held();

CREATE FUNCTION forget_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE held_amounts;
    RETURN NULL;
END $$;
CREATE TRIGGER attempts_are_removed AFTER TRUNCATE ON inflight FOR EACH STATEMENT EXECUTE FUNCTION forget_held();
