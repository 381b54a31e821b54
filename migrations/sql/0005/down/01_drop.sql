-- No run of a what-if. The reports stay.
DROP FUNCTION gate.whatif_end, gate.whatif_cancel, gate.whatif_progress, gate.whatif_begin, gate.whatif_close_silent;
DROP TABLE gate.whatif_runs;
