-- Returns what a role of a process may do that it must not, in words; nothing if it may only call functions, read, and (the
-- projector) write the read models. See migrations/roles.py.
CREATE OR REPLACE FUNCTION role_problems(p_role name) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT p.problem
    FROM pg_roles r
    CROSS JOIN pg_database d
    JOIN pg_class e ON e.oid = to_regclass('events')
    CROSS JOIN LATERAL (
        VALUES (1, r.rolsuper, 'is a superuser'),
               (2, NOT r.rolsuper AND pg_has_role(r.oid, e.relowner, 'MEMBER'), 'owns the tables'),
               (3, NOT r.rolsuper AND pg_has_role(r.oid, d.datdba, 'MEMBER'), 'owns the database'),
               (4, has_schema_privilege(r.oid, e.relnamespace, 'CREATE'), 'may create tables and functions'),
               (5, has_table_privilege(r.oid, e.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER'),
                'may write the log past its functions'),
               (6, r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls,
                'may create roles or databases, replicate, or bypass row security'),
               (7, pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER')
                   OR pg_has_role(r.oid, 'pg_write_server_files', 'MEMBER')
                   OR pg_has_role(r.oid, 'pg_read_server_files', 'MEMBER')
                   OR pg_has_role(r.oid, 'pg_write_all_data', 'MEMBER'),
                'may use the files or programs of the server, or write every table')
    ) AS p (i, is_so, problem)
    WHERE r.rolname = p_role AND d.datname = current_database() AND p.is_so
    ORDER BY p.i
$$;
