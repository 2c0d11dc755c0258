CREATE TABLE public.attempts (
    id integer NOT NULL,
    connection integer NOT NULL,
    project_id integer NOT NULL,
    above bigint NOT NULL,
    opened_at double precision NOT NULL,
    looks integer NOT NULL,
    look_at double precision NOT NULL,
    rows json NOT NULL
);
CREATE SEQUENCE public.attempts_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.attempts_id_seq OWNED BY public.attempts.id;
CREATE TABLE public.completions (
    connection integer NOT NULL,
    task_id bigint NOT NULL,
    updated_at text NOT NULL,
    digest text NOT NULL,
    uri text NOT NULL,
    annotations integer NOT NULL
);
CREATE TABLE public.connections (
    id integer NOT NULL,
    name text NOT NULL,
    removed boolean NOT NULL,
    project_id integer,
    annotated integer NOT NULL,
    polled_to text NOT NULL,
    holder text NOT NULL,
    fence integer NOT NULL,
    leased_until double precision NOT NULL,
    source_copy text NOT NULL,
    target_copy text NOT NULL,
    exports_moved integer NOT NULL,
    snapshot_of integer NOT NULL,
    snapshot_at double precision NOT NULL,
    snapshot_uri text NOT NULL
);
CREATE SEQUENCE public.connections_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.connections_id_seq OWNED BY public.connections.id;
CREATE TABLE public.health (
    connection integer NOT NULL,
    work text NOT NULL,
    failures integer NOT NULL,
    retry_at double precision NOT NULL,
    failure text NOT NULL,
    passed_at double precision NOT NULL
);
CREATE TABLE public.milestones (
    connection integer NOT NULL,
    key character varying NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.objects (
    connection integer NOT NULL,
    key character varying NOT NULL COLLATE pg_catalog."C",
    version text NOT NULL,
    size bigint NOT NULL,
    state text NOT NULL
);
CREATE TABLE public.quarantine (
    connection integer NOT NULL,
    key character varying NOT NULL COLLATE pg_catalog."C",
    "row" integer NOT NULL,
    version text NOT NULL,
    reason text NOT NULL,
    reading text NOT NULL
);
CREATE TABLE public.revisions (
    connection integer NOT NULL,
    number integer NOT NULL,
    document json NOT NULL,
    saved_at double precision NOT NULL,
    saved_by text NOT NULL
);
CREATE TABLE public.tasks (
    connection integer NOT NULL,
    key character varying NOT NULL COLLATE pg_catalog."C",
    "row" integer NOT NULL,
    version text NOT NULL,
    digest text NOT NULL,
    task_id bigint NOT NULL
);
ALTER TABLE ONLY public.attempts ALTER COLUMN id SET DEFAULT nextval('public.attempts_id_seq'::regclass);
ALTER TABLE ONLY public.connections ALTER COLUMN id SET DEFAULT nextval('public.connections_id_seq'::regclass);
INSERT INTO public.attempts VALUES (2, 1, 1, 1099511627776, 1800000000, 1, 1800000030, '[["a.json", 0, "c8f66df0a491832a0f2b92af019e9339", "816ad60947985d0f9322577514526acb339ed3989eb7042c93d314b5811f05ed"]]');
INSERT INTO public.completions VALUES (1, 3, '2026-11-25T21:50:00.962464Z', '847308a6622de761a6f5c50a53a39ae779f17abde62aef4184c0bdef8b668f5a', 's3://labels/3.json', 1);
INSERT INTO public.completions VALUES (1, 6, '2026-11-25T21:50:00.962905Z', 'deleted', 's3://labels/6.json', 0);
INSERT INTO public.connections VALUES (1, 'reviews', false, 1, 1, '2026-11-25T21:48:00.000000Z', '', 6, 0, '', '', 2, 1, 1800000000, 's3://labels/training_data/snapshots/00000001-11ed665752fd/');
INSERT INTO public.connections VALUES (2, 'old', true, NULL, 0, '', '', 0, 0, '', '', 0, 0, 0, '');
INSERT INTO public.health VALUES (1, 'completions', 1, 1800000030, 'It is down.', 0);
INSERT INTO public.milestones VALUES (1, 'Z.json');
INSERT INTO public.milestones VALUES (1, 'a.json');
INSERT INTO public.objects VALUES (1, ' b.json', 'a55015f372749582b495f60ff02bdf44', 25, 'loaded');
INSERT INTO public.objects VALUES (1, 'Z.json', '408e1cef23e0b2bdaf6e5ae33a8d8734', 18, 'loaded');
INSERT INTO public.objects VALUES (1, 'a.json', 'c8f66df0a491832a0f2b92af019e9339', 18, 'loaded');
INSERT INTO public.objects VALUES (1, 'bad.json', '83e12cc6068a0f3c5555be0d55fb01bb', 8, 'quarantined');
INSERT INTO public.objects VALUES (1, 'lines.jsonl', '99269d435756fe42bb1c346a296206cb', 17, 'loaded');
INSERT INTO public.objects VALUES (1, 'ü.json', 'cba862fee3f386fb2285cc0865afb49a', 23, 'loaded');
INSERT INTO public.objects VALUES (1, 'gone.json', 'accf5948d3e47b422b1e21f4218ed381', 21, 'removed');
INSERT INTO public.quarantine VALUES (1, 'bad.json', -1, '83e12cc6068a0f3c5555be0d55fb01bb', 'Not JSON: Expecting value (line 1, column 1).', 'json');
INSERT INTO public.quarantine VALUES (1, 'lines.jsonl', 1, '99269d435756fe42bb1c346a296206cb', 'A task is a JSON object; here stands a list.', 'json');
INSERT INTO public.revisions VALUES (1, 1, '{"name": "reviews", "source": {"path": "bucket", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "data_key": "", "use_blob_urls": false, "on_change": "update", "on_delete": "keep"}, "type": "s3"}, "target": {"path": "labels", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "kms_key_id": "", "delete": false, "snapshot_minutes": 60, "snapshot_cron": "", "snapshots_kept": 30, "snapshots_kept_days": 30, "validation_share": 0.1, "test_share": 0.1, "skipped_at_most": 0.2, "agreement_at_least": 0.5, "labels_within_days": 7, "formats": []}, "type": "s3-completions"}, "project": "Reviews", "label_config": "<View><Text name=\"t\" value=\"$text\"/>\n<Choices name=\"c\" toName=\"t\"><Choice value=\"A\"/><Choice value=\"B\"/></Choices></View>", "enabled": true}', 1800000000, 'test');
INSERT INTO public.revisions VALUES (1, 2, '{"name": "reviews", "source": {"path": "bucket", "params": {"prefix": "other/", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "data_key": "", "use_blob_urls": false, "on_change": "update", "on_delete": "keep"}, "type": "s3"}, "target": {"path": "labels", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "kms_key_id": "", "delete": false, "snapshot_minutes": 60, "snapshot_cron": "", "snapshots_kept": 30, "snapshots_kept_days": 30, "validation_share": 0.1, "test_share": 0.1, "skipped_at_most": 0.2, "agreement_at_least": 0.5, "labels_within_days": 7, "formats": []}, "type": "s3-completions"}, "project": "Reviews", "label_config": "<View><Text name=\"t\" value=\"$text\"/>\n<Choices name=\"c\" toName=\"t\"><Choice value=\"A\"/><Choice value=\"B\"/></Choices></View>", "enabled": true}', 1800000000, 'test');
INSERT INTO public.revisions VALUES (2, 1, '{"name": "old", "source": {"path": "bucket", "params": {"prefix": "other/", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "data_key": "", "use_blob_urls": false, "on_change": "update", "on_delete": "keep"}, "type": "s3"}, "target": {"path": "labels", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "kms_key_id": "", "delete": false, "snapshot_minutes": 60, "snapshot_cron": "", "snapshots_kept": 30, "snapshots_kept_days": 30, "validation_share": 0.1, "test_share": 0.1, "skipped_at_most": 0.2, "agreement_at_least": 0.5, "labels_within_days": 7, "formats": []}, "type": "s3-completions"}, "project": "Reviews", "label_config": "<View><Text name=\"t\" value=\"$text\"/>\n<Choices name=\"c\" toName=\"t\"><Choice value=\"A\"/><Choice value=\"B\"/></Choices></View>", "enabled": true}', 1800000000, 'test');
INSERT INTO public.tasks VALUES (1, ' b.json', 0, 'a55015f372749582b495f60ff02bdf44', '04f1d54d1b4b90eed37d57480bb6b215453396483527c83306cc37e10907dd0c', 1);
INSERT INTO public.tasks VALUES (1, 'Z.json', 0, '408e1cef23e0b2bdaf6e5ae33a8d8734', 'b9b5fed6a06564c39f903cdb5f4ddc42a26a6fc94b78f9ca1e452583c1798d89', 2);
INSERT INTO public.tasks VALUES (1, 'a.json', 0, 'c8f66df0a491832a0f2b92af019e9339', '816ad60947985d0f9322577514526acb339ed3989eb7042c93d314b5811f05ed', 3);
INSERT INTO public.tasks VALUES (1, 'gone.json', 0, 'accf5948d3e47b422b1e21f4218ed381', '2aea935949f4226c5a4d12b8dbee7ede2b32422b5d7536c1e914ea03940c9bcd', 4);
INSERT INTO public.tasks VALUES (1, 'lines.jsonl', 0, '99269d435756fe42bb1c346a296206cb', '03f99d421d963259129b9e97e1f2911d265b60bb7fd7349a06605daa3d86a828', 5);
INSERT INTO public.tasks VALUES (1, 'ü.json', 0, 'cba862fee3f386fb2285cc0865afb49a', 'fa8702698490ccc424f41b0314e8683548cbac255b29ceb2243c7b92505c0d55', 6);
SELECT pg_catalog.setval('public.attempts_id_seq', 2, true);
SELECT pg_catalog.setval('public.connections_id_seq', 2, true);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.completions
    ADD CONSTRAINT completions_pkey PRIMARY KEY (connection, task_id);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.health
    ADD CONSTRAINT health_pkey PRIMARY KEY (connection, work);
ALTER TABLE ONLY public.milestones
    ADD CONSTRAINT milestones_pkey PRIMARY KEY (connection, key);
ALTER TABLE ONLY public.objects
    ADD CONSTRAINT objects_pkey PRIMARY KEY (connection, key);
ALTER TABLE ONLY public.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (connection, key, "row");
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_pkey PRIMARY KEY (connection, number);
ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (connection, key, "row");
CREATE UNIQUE INDEX connections_in_use ON public.connections USING btree (name) WHERE (NOT removed);
CREATE INDEX ix_attempts_connection ON public.attempts USING btree (connection);
CREATE INDEX ix_connections_name ON public.connections USING btree (name);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.completions
    ADD CONSTRAINT completions_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.health
    ADD CONSTRAINT health_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.milestones
    ADD CONSTRAINT milestones_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.objects
    ADD CONSTRAINT objects_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.quarantine
    ADD CONSTRAINT quarantine_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_connection_fkey FOREIGN KEY (connection) REFERENCES public.connections(id);
