"""What the outside can see of the service: metrics, logs and traces, none of which carries applicant data."""
