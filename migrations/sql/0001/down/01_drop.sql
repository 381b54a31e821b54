-- Removes everything but the record of which migrations ran.
DO $$
DECLARE
    v_name text;
BEGIN
    FOR v_name IN SELECT oid::regprocedure::text FROM pg_proc
                  WHERE pronamespace = 'gate'::regnamespace AND prorettype <> 'trigger'::regtype LOOP
        EXECUTE format('DROP FUNCTION %s', v_name);
    END LOOP;
    FOR v_name IN SELECT tablename FROM pg_tables WHERE schemaname = 'gate' AND tablename <> 'schema_version' LOOP
        EXECUTE format('DROP TABLE IF EXISTS gate.%I CASCADE', v_name);
    END LOOP;
    FOR v_name IN SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'gate'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s', v_name);
    END LOOP;
END $$;
