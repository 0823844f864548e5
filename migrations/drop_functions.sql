-- Drop functions of former releases, before `migrations/functions/` runs. CREATE OR REPLACE would keep a function with other
-- parameters beside the new one, and cannot change a function's return type.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
          AND proname IN ('admit', 'admit_next', 'decide', 'insert_admitted', 'lock_meters', 'store_provider_key',
                          'append_served', 'append_events', 'cached_answers', 'limits_of', 'taken_of', 'drop_overdue')   -- these have other names now
    LOOP
        EXECUTE 'DROP FUNCTION ' || v_function;
    END LOOP;
END $$;
