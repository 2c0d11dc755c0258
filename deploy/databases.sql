-- Run once, when PostgreSQL's volume is empty.
CREATE DATABASE dagster;
CREATE DATABASE ledger;
CREATE DATABASE labels;
