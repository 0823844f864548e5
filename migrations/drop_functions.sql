-- Functions of former releases that `migrations/functions/` does not replace: CREATE OR REPLACE would leave one with other
-- parameters beside the new one, and refuses to change what one returns. Runs before them.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
          AND proname IN ('admit', 'admit_next', 'lock_meters',
                          'append_served', 'cached_answers', 'limits_of', 'taken_of')   -- named otherwise now
    LOOP
        EXECUTE 'DROP FUNCTION ' || v_function;
    END LOOP;
END $$;
