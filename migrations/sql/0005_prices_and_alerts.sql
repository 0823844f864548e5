-- The operator's prices, folded in the append of their own events: they apply from the next request on.
CREATE TABLE price_overrides (
    provider       text COLLATE "C" NOT NULL,
    model          text COLLATE "C" NOT NULL,
    effective_from timestamptz NOT NULL,
    prices         json NOT NULL,               -- domain.pricing.ClassPrices
    PRIMARY KEY (provider, model, effective_from)
);

-- Budget alerts, and the outcome of their delivery to the project's webhook.
CREATE TABLE budget_alerts (
    alert             text COLLATE "C" PRIMARY KEY,     -- the alert's stream
    project_id        text COLLATE "C" NOT NULL,
    scope             text NOT NULL,
    scope_id          text COLLATE "C" NOT NULL,
    period            text NOT NULL,
    starts_on         date NOT NULL,
    threshold_percent integer NOT NULL,
    limit_nano_usd    bigint NOT NULL,
    taken_nano_usd    bigint NOT NULL,
    raised_at         timestamptz NOT NULL,
    told              text                              -- NULL: not delivered yet; else delivered or given_up
);
CREATE INDEX budget_alerts_untold ON budget_alerts (raised_at) WHERE told IS NULL;

-- The windows of one day or month, for the query that compares them with the thresholds.
CREATE INDEX budget_balances_by_start ON budget_balances (period, starts_on);
