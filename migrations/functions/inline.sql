-- The tables that are folded in the append of their own events: projects, API keys, prices, providers, routes. Each function
-- makes rows what their streams in the log say, so that nobody can write a row that the log does not prove. The log ends at its
-- head, which the append has moved before its events are folded. `p_suffix`: '', or that of a rebuild's shadow tables.
-- Absent fields have the defaults of domain/events.py.

CREATE OR REPLACE FUNCTION fold_projects(p_streams text[], p_suffix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        INSERT INTO %I (project_id, name, created_at, daily_budget_nano_usd, monthly_budget_nano_usd, alert_url,
                        installation_daily_budget_nano_usd, cancel_on_disconnect, webhook_rotation, webhook_rotated_at)
            SELECT c.project_id, s.data ->> 'name', c.at, (s.data ->> 'daily_budget_nano_usd')::bigint,
                   (s.data ->> 'monthly_budget_nano_usd')::bigint, s.data ->> 'alert_url',
                   (s.data ->> 'installation_daily_budget_nano_usd')::bigint,
                   coalesce((s.data ->> 'cancel_on_disconnect')::boolean, false), coalesce(w.rotation, 0), w.at
            FROM events c
            CROSS JOIN LATERAL (
                SELECT data FROM events
                WHERE stream = c.stream AND type IN ('ProjectCreated', 'ProjectSettingsChanged')
                  AND position BETWEEN 1 AND (SELECT position FROM log_head)
                ORDER BY version DESC LIMIT 1
            ) AS s
            LEFT JOIN LATERAL (
                SELECT (data ->> 'rotation')::integer AS rotation, at FROM events
                WHERE stream = c.stream AND type = 'WebhookSecretRotated'
                  AND position BETWEEN 1 AND (SELECT position FROM log_head)
                ORDER BY version DESC LIMIT 1
            ) AS w ON true
            WHERE c.stream = ANY ($1) AND c.version = 1 AND c.type = 'ProjectCreated'
              AND c.stream = 'project-' || c.project_id AND c.position BETWEEN 1 AND (SELECT position FROM log_head)
        ON CONFLICT (project_id) DO UPDATE SET
            name = excluded.name, daily_budget_nano_usd = excluded.daily_budget_nano_usd,
            monthly_budget_nano_usd = excluded.monthly_budget_nano_usd, alert_url = excluded.alert_url,
            installation_daily_budget_nano_usd = excluded.installation_daily_budget_nano_usd,
            cancel_on_disconnect = excluded.cancel_on_disconnect, webhook_rotation = excluded.webhook_rotation,
            webhook_rotated_at = excluded.webhook_rotated_at
    $sql$, 'projects' || p_suffix) USING p_streams;
END $$;

CREATE OR REPLACE FUNCTION fold_keys(p_streams text[], p_suffix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        INSERT INTO %I (key_id, project_id, secret_hash, hint, settings, created_at, revoked_at, version, expires_at,
                        daily_budget_nano_usd, monthly_budget_nano_usd, rate_limit, token_limit, concurrency_limit)
            SELECT i.data ->> 'key_id', i.project_id, decode(i.data ->> 'secret_hash', 'hex'), i.data ->> 'hint',
                   s.settings, i.at, r.at, v.version, (s.settings ->> 'expires_at')::timestamptz,
                   (s.settings ->> 'daily_budget_nano_usd')::bigint, (s.settings ->> 'monthly_budget_nano_usd')::bigint,
                   CASE WHEN s.settings -> 'rate_limit' IS NULL THEN 600   -- DEFAULT_RATE_LIMIT_PER_MINUTE
                        ELSE (s.settings ->> 'rate_limit')::bigint END,
                   (s.settings ->> 'token_limit')::bigint, (s.settings ->> 'concurrency_limit')::bigint
            FROM events i
            CROSS JOIN LATERAL (
                SELECT data -> 'settings' AS settings FROM events
                WHERE stream = i.stream AND type IN ('ApiKeyIssued', 'ApiKeyChanged')
                  AND position BETWEEN 1 AND (SELECT position FROM log_head)
                ORDER BY version DESC LIMIT 1
            ) AS s
            CROSS JOIN LATERAL (
                SELECT max(version) AS version FROM events
                WHERE stream = i.stream AND position BETWEEN 1 AND (SELECT position FROM log_head)
            ) AS v
            LEFT JOIN LATERAL (
                SELECT at FROM events
                WHERE stream = i.stream AND type = 'ApiKeyRevoked'
                  AND position BETWEEN 1 AND (SELECT position FROM log_head)
                ORDER BY version DESC LIMIT 1
            ) AS r ON true
            WHERE i.stream = ANY ($1) AND i.version = 1 AND i.type = 'ApiKeyIssued'
              AND i.stream = 'key-' || (i.data ->> 'key_id')
              AND i.position BETWEEN 1 AND (SELECT position FROM log_head)
        ON CONFLICT (key_id) DO UPDATE SET
            settings = excluded.settings, revoked_at = excluded.revoked_at, version = excluded.version,
            expires_at = excluded.expires_at, daily_budget_nano_usd = excluded.daily_budget_nano_usd,
            monthly_budget_nano_usd = excluded.monthly_budget_nano_usd, rate_limit = excluded.rate_limit,
            token_limit = excluded.token_limit, concurrency_limit = excluded.concurrency_limit
    $sql$, 'api_keys' || p_suffix) USING p_streams;
END $$;

-- Of two prices with the same start, the later event wins.
CREATE OR REPLACE FUNCTION fold_prices(p_streams text[], p_suffix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        INSERT INTO %I (provider, model, effective_from, prices)
            SELECT DISTINCT ON (provider, model, effective_from) provider, model, effective_from, prices
            FROM (
                SELECT data ->> 'provider' AS provider, data ->> 'model' AS model,
                       (data ->> 'effective_from')::timestamptz AS effective_from, data -> 'prices' AS prices, version
                FROM events
                WHERE stream = ANY ($1) AND type = 'PriceSet'
                  AND stream = 'price-' || (data ->> 'provider') || '/' || (data ->> 'model')
                  AND position BETWEEN 1 AND (SELECT position FROM log_head)
            ) AS s
            ORDER BY provider, model, effective_from, version DESC
        ON CONFLICT (provider, model, effective_from) DO UPDATE SET prices = excluded.prices
    $sql$, 'price_overrides' || p_suffix) USING p_streams;
END $$;

CREATE OR REPLACE FUNCTION fold_providers(p_streams text[], p_suffix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        DELETE FROM %I p USING events e
        WHERE e.stream = ANY ($1) AND e.type = 'ProviderRemoved' AND p.project_id = e.project_id
          AND p.name = e.data ->> 'name' AND e.stream = 'provider-' || e.project_id || '/' || p.name
          AND e.position BETWEEN 1 AND (SELECT position FROM log_head)
    $sql$, 'providers' || p_suffix) USING p_streams;
    EXECUTE format($sql$
        INSERT INTO %I (project_id, name, kind, base_url, models, hint, configured_at, replaces_builtin)
            SELECT e.project_id, e.data ->> 'name', e.data ->> 'kind', e.data ->> 'base_url',
                   CASE WHEN json_typeof(e.data -> 'models') = 'array'
                        THEN ARRAY(SELECT json_array_elements_text(e.data -> 'models')) END,
                   e.data ->> 'hint', e.at, coalesce((e.data ->> 'replaces_builtin')::boolean, false)
            FROM events e
            WHERE e.stream = ANY ($1) AND e.type = 'ProviderConfigured'
              AND e.stream = 'provider-' || e.project_id || '/' || (e.data ->> 'name')
              AND e.position BETWEEN 1 AND (SELECT position FROM log_head)
              AND e.version = (                             -- its credentials have events in the same stream
                  SELECT max(version) FROM events
                  WHERE stream = e.stream AND type IN ('ProviderConfigured', 'ProviderRemoved')
                    AND position BETWEEN 1 AND (SELECT position FROM log_head)
              )
        ON CONFLICT (project_id, name) DO UPDATE SET
            kind = excluded.kind, base_url = excluded.base_url, models = excluded.models, hint = excluded.hint,
            configured_at = excluded.configured_at, replaces_builtin = excluded.replaces_builtin
    $sql$, 'providers' || p_suffix) USING p_streams;
END $$;

CREATE OR REPLACE FUNCTION fold_routes(p_streams text[], p_suffix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        DELETE FROM %I r USING events e
        WHERE e.stream = ANY ($1) AND e.type = 'RouteRemoved' AND r.project_id = e.project_id
          AND r.name = e.data ->> 'name' AND e.stream = 'route-' || e.project_id || '/' || r.name
          AND e.position BETWEEN 1 AND (SELECT position FROM log_head)
    $sql$, 'routes' || p_suffix) USING p_streams;
    EXECUTE format($sql$
        INSERT INTO %I (project_id, name, settings, set_at)
            SELECT e.project_id, e.data ->> 'name', e.data -> 'settings', e.at
            FROM events e
            WHERE e.stream = ANY ($1) AND e.type = 'RouteSet'
              AND e.stream = 'route-' || e.project_id || '/' || (e.data ->> 'name')
              AND e.position BETWEEN 1 AND (SELECT position FROM log_head)
              AND e.version = (
                  SELECT max(version) FROM events
                  WHERE stream = e.stream AND position BETWEEN 1 AND (SELECT position FROM log_head)
              )
        ON CONFLICT (project_id, name) DO UPDATE SET settings = excluded.settings, set_at = excluded.set_at
    $sql$, 'routes' || p_suffix) USING p_streams;
END $$;

-- Secrets, sealed by the caller. They are in no event. The key of a project's content is stored once and never replaced.

CREATE OR REPLACE FUNCTION store_project_secret(p_project text, p_sealed bytea) RETURNS void LANGUAGE sql AS $$
    INSERT INTO project_secrets (project_id, sealed) VALUES (p_project, p_sealed)
$$;

-- Stores or replaces one of a project's keys for a provider, without a change of its weight if that is NULL; removes it if
-- `p_sealed` is NULL.
CREATE OR REPLACE FUNCTION store_provider_key(
    p_project text, p_provider text, p_sealed bytea, p_hint text, p_name text DEFAULT 'default',
    p_weight integer DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_sealed IS NULL THEN
        DELETE FROM provider_keys WHERE project_id = p_project AND provider = p_provider AND name = p_name;
    ELSE
        INSERT INTO provider_keys AS k (project_id, provider, name, sealed, hint, weight)
            VALUES (p_project, p_provider, p_name, p_sealed, p_hint, coalesce(p_weight, 1))
            ON CONFLICT (project_id, provider, name) DO UPDATE SET
                sealed = excluded.sealed, hint = excluded.hint, weight = coalesce(p_weight, k.weight);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION weigh_provider_key(p_project text, p_provider text, p_name text, p_weight integer)
RETURNS void LANGUAGE sql AS $$
    UPDATE provider_keys SET weight = p_weight WHERE project_id = p_project AND provider = p_provider AND name = p_name
$$;

CREATE OR REPLACE FUNCTION remove_provider_keys(p_project text, p_provider text) RETURNS void LANGUAGE sql AS $$
    DELETE FROM provider_keys WHERE project_id = p_project AND provider = p_provider
$$;
