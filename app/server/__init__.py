"""The processes of the service: one worker, or a parent that keeps several alive. Knows uvicorn, not the app."""
