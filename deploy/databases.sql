-- PostgreSQL's image runs this once, if its volume is empty.
CREATE DATABASE dagster;
CREATE DATABASE ledger;
CREATE DATABASE labels;
