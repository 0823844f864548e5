-- Prices that the operator sets, folded in the append of their own events: they hold from the next request on.
CREATE TABLE price_overrides (
    provider       text COLLATE "C" NOT NULL,
    model          text COLLATE "C" NOT NULL,
    effective_from timestamptz NOT NULL,
    prices         json NOT NULL,               -- domain.pricing.ClassPrices
    PRIMARY KEY (provider, model, effective_from)
);

-- Alerts that were raised, and what became of telling the project's address.
CREATE TABLE budget_alerts (
    alert             text COLLATE "C" PRIMARY KEY,     -- its stream
    project_id        text COLLATE "C" NOT NULL,
    scope             text NOT NULL,
    scope_id          text COLLATE "C" NOT NULL,
    period            text NOT NULL,
    starts_on         date NOT NULL,
    threshold_percent integer NOT NULL,
    limit_nano_usd    bigint NOT NULL,
    taken_nano_usd    bigint NOT NULL,
    raised_at         timestamptz NOT NULL,
    told              text                              -- NULL: not yet; delivered, given up
);
CREATE INDEX budget_alerts_untold ON budget_alerts (raised_at) WHERE told IS NULL;

-- The windows of a day or month, for those who look for thresholds.
CREATE INDEX budget_balances_by_start ON budget_balances (period, starts_on);
