-- Asynchronous jobs: two read models, and the leases of those that run them.

ALTER TABLE projects
    ADD COLUMN webhook_rotation   integer NOT NULL DEFAULT 0,   -- how often the secret of its webhooks was rotated
    ADD COLUMN webhook_rotated_at timestamptz;

CREATE TABLE jobs (
    job_id            text COLLATE "C" PRIMARY KEY,
    project_id        text COLLATE "C" NOT NULL,
    key_id            text COLLATE "C" NOT NULL,
    batch_id          text COLLATE "C",
    custom_id         text,
    operation         text NOT NULL,
    model             text NOT NULL,
    status            text NOT NULL,            -- queued, running, succeeded, failed, cancelled
    accepted_at       timestamptz NOT NULL,
    deadline          timestamptz NOT NULL,
    started_at        timestamptz,              -- of the last run
    ended_at          timestamptz,
    runs              integer NOT NULL DEFAULT 0,
    request_id        text COLLATE "C",         -- of the last run, or of the answer
    result_blob_id    text,
    result_expires_at timestamptz,
    error_code        text,
    error_message     text,
    error_status      integer,
    webhook_url       text,
    told              text,                     -- delivered, given_up
    told_status       integer
);
CREATE INDEX jobs_open ON jobs (project_id, key_id, job_id) WHERE ended_at IS NULL;
CREATE INDEX jobs_of_project ON jobs (project_id, job_id);
CREATE INDEX jobs_of_batch ON jobs (batch_id, job_id) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_open_of_batch ON jobs (batch_id) WHERE batch_id IS NOT NULL AND ended_at IS NULL;
CREATE INDEX jobs_untold ON jobs (project_id, ended_at) WHERE webhook_url IS NOT NULL AND ended_at IS NOT NULL AND told IS NULL;

CREATE TABLE job_batches (
    batch_id    text COLLATE "C" PRIMARY KEY,
    project_id  text COLLATE "C" NOT NULL,
    key_id      text COLLATE "C" NOT NULL,
    jobs        integer NOT NULL,
    accepted_at timestamptz NOT NULL,
    deadline    timestamptz NOT NULL,
    ended_at    timestamptz,
    webhook_url text,
    told        text,
    told_status integer
);
CREATE INDEX job_batches_of_project ON job_batches (project_id, batch_id);
CREATE INDEX job_batches_open ON job_batches (batch_id) WHERE ended_at IS NULL;
CREATE INDEX job_batches_untold ON job_batches (project_id, ended_at)
    WHERE webhook_url IS NOT NULL AND ended_at IS NOT NULL AND told IS NULL;

-- Who runs a job, and until when nobody else may. A job that has no row was never taken. This is no fact: if it is lost,
-- the jobs that have not ended are taken again, and their streams say what was done.
CREATE TABLE job_leases (
    job_id     text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    runner     text,                            -- NULL: nobody; the job waits until then
    until      timestamptz NOT NULL,
    request_id text COLLATE "C" NOT NULL        -- the id for its next request
);
CREATE INDEX job_leases_by_end ON job_leases (until);
