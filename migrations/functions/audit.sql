-- Verifications that an operator asks for and a projector makes. See projections/audit_runs.py.

-- Asks for a run. Returns the id of the one of this kind that is open: `p_run`, or an earlier one's. Ends those that nobody
-- will end, and forgets all but the newest.
CREATE OR REPLACE FUNCTION ask_audit_run(p_run text, p_kind text, p_kept integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_open text;
BEGIN
    PERFORM end_lost_audit_runs();
    -- the update changes nothing: it waits for whoever ends that one now, and keeps it open until this is over
    INSERT INTO audit_runs AS open (run_id, kind, asked_at) VALUES (p_run, p_kind, clock_timestamp())
        ON CONFLICT (kind) WHERE ended_at IS NULL DO UPDATE SET kind = open.kind RETURNING run_id INTO v_open;
    DELETE FROM audit_runs WHERE ended_at IS NOT NULL AND run_id NOT IN (
        SELECT run_id FROM audit_runs ORDER BY asked_at DESC LIMIT p_kept);
    RETURN v_open;
END $$;

-- Takes the run that has waited longest, unless one is being made. Returns no row if there is none to make.
CREATE OR REPLACE FUNCTION take_audit_run() RETURNS TABLE (run_id text, kind text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM end_lost_audit_runs();
    RETURN QUERY UPDATE audit_runs SET started_at = clock_timestamp(), beat_at = clock_timestamp()
    WHERE started_at IS NULL AND run_id = (
        SELECT w.run_id FROM audit_runs w WHERE w.ended_at IS NULL AND w.started_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM audit_runs m WHERE m.ended_at IS NULL AND m.started_at IS NOT NULL)
        ORDER BY w.asked_at LIMIT 1)
    RETURNING run_id, kind;
END $$;

-- Says how far a run is. Returns false if it has ended: its process was taken for dead.
CREATE OR REPLACE FUNCTION report_audit_run(p_run text, p_done bigint, p_total bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE audit_runs SET done = p_done, total = p_total, beat_at = clock_timestamp()
    WHERE run_id = p_run AND ended_at IS NULL;
    RETURN FOUND;
END $$;

-- Ends a run, unless it has ended.
CREATE OR REPLACE FUNCTION end_audit_run(p_run text, p_verdict text, p_lines text[]) RETURNS void LANGUAGE sql AS $$
    UPDATE audit_runs SET ended_at = clock_timestamp(), verdict = p_verdict, lines = p_lines
    WHERE run_id = p_run AND ended_at IS NULL
$$;

-- Ends the runs whose process has not been seen for half a minute, and those that no projector has taken for five.
CREATE OR REPLACE FUNCTION end_lost_audit_runs() RETURNS void LANGUAGE sql AS $$
    UPDATE audit_runs SET ended_at = clock_timestamp(), verdict = 'failed',
        lines = ARRAY[CASE WHEN started_at IS NULL THEN 'no projector has taken it: is one running?'
                           ELSE 'the process that made it has ended' END]
    WHERE ended_at IS NULL AND coalesce(beat_at + interval '30 seconds', asked_at + interval '5 minutes') < clock_timestamp()
$$;
