#!/bin/sh
# Runs once, when the database's volume is empty: the same logins and rights as `channel-gate bootstrap` creates.
set -eu

psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
    --set=owner_password="$GATE_OWNER_PASSWORD" \
    --set=serving_password="$GATE_SERVING_PASSWORD" \
    --set=governance_password="$GATE_GOVERNANCE_PASSWORD" <<'SQL'
CREATE ROLE channel_gate_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
CREATE ROLE channel_gate_serving LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'serving_password';
CREATE ROLE channel_gate_governance LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'governance_password';
CREATE DATABASE channel_gate OWNER channel_gate_owner;
REVOKE ALL ON DATABASE channel_gate FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE channel_gate TO channel_gate_owner;
GRANT CONNECT ON DATABASE channel_gate TO channel_gate_serving, channel_gate_governance;
ALTER DATABASE channel_gate SET timezone TO 'UTC';
SQL
