-- The queue of asynchronous jobs: those of `jobs` that have not ended and are in nobody's hands. See infra/job_leases.py.

-- Takes jobs for a runner, at most as many as p_fresh has ids, for p_lease_s seconds. Fair: the next job is of the project
-- with the fewest in hand, and in it of such a key, over all runners. Of this runner's slots a project has at most 7 times
-- as many as are free, so there is room for one that comes later (docs/decisions/0016). Skips the keys of p_skipped.
-- `is_again`: somebody has had the job before; what he did with `request_id` has to be found out.
CREATE OR REPLACE FUNCTION take_jobs(
    p_runner text, p_fresh text[], p_free integer, p_lease_s double precision, p_skipped text[]
) RETURNS TABLE (job_id text, project_id text, request_id text, is_again boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c_project_factor CONSTANT integer := 7;
    v_now CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH RECURSIVE tenants AS (                             -- the keys that have open jobs: a loose scan of jobs_open
        (SELECT j.project_id, j.key_id FROM jobs j WHERE j.ended_at IS NULL ORDER BY j.project_id, j.key_id LIMIT 1)
        UNION ALL
        SELECT n.project_id, n.key_id FROM tenants t CROSS JOIN LATERAL (
            SELECT j.project_id, j.key_id FROM jobs j
            WHERE j.ended_at IS NULL AND (j.project_id, j.key_id) > (t.project_id, t.key_id)
            ORDER BY j.project_id, j.key_id LIMIT 1
        ) AS n
    ), in_hand AS (
        SELECT l.project_id, l.key_id, count(*) AS jobs, count(*) FILTER (WHERE l.runner = p_runner) AS here
        FROM job_leases l
        WHERE l.runner IS NOT NULL AND l.until > v_now GROUP BY l.project_id, l.key_id
    ), of_keys AS (
        SELECT t.project_id, w.job_id,
               row_number() OVER (PARTITION BY t.project_id, t.key_id ORDER BY w.job_id)
                   + coalesce((SELECT h.jobs FROM in_hand h WHERE (h.project_id, h.key_id) = (t.project_id, t.key_id)), 0)
                   AS turn
        FROM tenants t CROSS JOIN LATERAL (
            SELECT j.job_id FROM jobs j
            WHERE j.ended_at IS NULL AND j.project_id = t.project_id AND j.key_id = t.key_id
              AND NOT EXISTS (SELECT 1 FROM job_leases l WHERE l.job_id = j.job_id AND l.until > v_now)
            ORDER BY j.job_id LIMIT cardinality(p_fresh)
        ) AS w
        WHERE t.key_id <> ALL (p_skipped)
    ), of_projects AS (
        SELECT k.project_id, k.job_id, row_number() OVER (PARTITION BY k.project_id ORDER BY k.turn, k.job_id) AS number
        FROM of_keys k
    ), turns AS (
        SELECT p.job_id, p.number + coalesce(h.jobs, 0) AS turn, p.number + coalesce(h.here, 0) AS turn_here
        FROM of_projects p LEFT JOIN (
            SELECT project_id, sum(jobs) AS jobs, sum(here) AS here FROM in_hand GROUP BY project_id
        ) AS h ON h.project_id = p.project_id
    ), ranked AS (
        SELECT t.job_id, t.turn_here, row_number() OVER (ORDER BY t.turn, t.job_id) AS place FROM turns t
    ), chosen AS (                                          -- those before it take slots as well
        SELECT r.job_id, row_number() OVER (ORDER BY r.place) AS i FROM ranked r
        WHERE r.turn_here <= c_project_factor * (p_free - r.place + 1)
        ORDER BY r.place LIMIT cardinality(p_fresh)
    ), taken AS (
        INSERT INTO job_leases AS l (job_id, project_id, key_id, runner, until, request_id)
            SELECT j.job_id, j.project_id, j.key_id, p_runner, v_now + make_interval(secs => p_lease_s), p_fresh[c.i]
            FROM chosen c JOIN jobs j ON j.job_id = c.job_id
            ORDER BY j.job_id                               -- one order for all runners, or two could deadlock
        ON CONFLICT (job_id) DO UPDATE SET runner = excluded.runner, until = excluded.until WHERE l.until <= v_now
        RETURNING l.job_id, l.project_id, l.request_id
    )
    SELECT t.job_id, t.project_id, t.request_id, t.request_id <> ALL (p_fresh) FROM taken t ORDER BY t.job_id;
END $$;

-- Keeps a runner's jobs in its hands. Returns those that are still there.
CREATE OR REPLACE FUNCTION renew_jobs(p_runner text, p_jobs text[], p_lease_s double precision)
RETURNS SETOF text LANGUAGE sql AS $$
    UPDATE job_leases SET until = clock_timestamp() + make_interval(secs => p_lease_s)
    WHERE job_id = ANY (p_jobs) AND runner = p_runner RETURNING job_id
$$;

-- Gives a job back: nobody takes it for so many seconds. p_request: a new id for its next request; NULL: the old one.
CREATE OR REPLACE FUNCTION release_job(p_runner text, p_job text, p_wait_s double precision, p_request text)
RETURNS void LANGUAGE sql AS $$
    UPDATE job_leases SET runner = NULL, until = clock_timestamp() + make_interval(secs => p_wait_s),
                          request_id = coalesce(p_request, request_id)
    WHERE job_id = p_job AND runner = p_runner
$$;

-- Removes the leases of jobs that have ended.
CREATE OR REPLACE FUNCTION remove_job_leases(p_limit integer) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM job_leases WHERE job_id IN (
            SELECT l.job_id FROM job_leases l JOIN jobs j USING (job_id)
            WHERE l.until < now() AND j.ended_at IS NOT NULL LIMIT p_limit
        ) RETURNING 1
    ) SELECT count(*) FROM gone
$$;

-- Stores bodies that no event names yet, those of a batch at once.
CREATE OR REPLACE FUNCTION store_blobs(
    p_blobs text[], p_project text, p_bodies bytea[], p_expires_at timestamptz
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO blobs (blob_id, project_id, body, expires_at)
        SELECT b.blob_id, p_project, b.body, p_expires_at FROM unnest(p_blobs, p_bodies) AS b (blob_id, body)
$$;
