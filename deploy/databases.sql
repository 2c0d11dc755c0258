-- PostgreSQL's image runs this once with psql, if its volume is empty.
\getenv password POSTGRES_PASSWORD
CREATE ROLE labeling LOGIN PASSWORD :'password';
CREATE DATABASE dagster OWNER labeling ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE ledger OWNER labeling ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE labels OWNER labeling ENCODING 'UTF8' TEMPLATE template0;
