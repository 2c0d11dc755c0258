BEGIN TRANSACTION;
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	connection INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	above BIGINT NOT NULL, 
	opened_at FLOAT NOT NULL, 
	looks INTEGER NOT NULL, 
	look_at FLOAT NOT NULL, 
	rows JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(connection) REFERENCES connections (id)
);
INSERT INTO "attempts" VALUES(1,1,1,1099511627776,1800000000.0,1,1800000030.0,'[["a.json", 0, "c8f66df0a491832a0f2b92af019e9339", "816ad60947985d0f9322577514526acb339ed3989eb7042c93d314b5811f05ed"]]');
CREATE TABLE completions (
	connection INTEGER NOT NULL, 
	task_id BIGINT NOT NULL, 
	updated_at TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	uri TEXT NOT NULL, 
	annotations INTEGER NOT NULL, 
	PRIMARY KEY (connection, task_id), 
	FOREIGN KEY(connection) REFERENCES connections (id)
);
INSERT INTO "completions" VALUES(1,3,'2026-11-25T21:49:56.397159Z','847308a6622de761a6f5c50a53a39ae779f17abde62aef4184c0bdef8b668f5a','s3://labels/3.json',1);
INSERT INTO "completions" VALUES(1,6,'2026-11-25T21:49:56.397417Z','deleted','s3://labels/6.json',0);
CREATE TABLE connections (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	removed BOOLEAN NOT NULL, 
	project_id INTEGER, 
	annotated INTEGER NOT NULL, 
	polled_to TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	fence INTEGER NOT NULL, 
	leased_until FLOAT NOT NULL, 
	source_copy TEXT NOT NULL, 
	target_copy TEXT NOT NULL, 
	exports_moved INTEGER NOT NULL, 
	snapshot_of INTEGER NOT NULL, 
	snapshot_at FLOAT NOT NULL, 
	snapshot_uri TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "connections" VALUES(1,'reviews',0,1,1,'2026-11-25T21:47:57.000000Z','',6,0.0,'','',2,1,1800000000.0,'s3://labels/training_data/snapshots/00000001-11ed665752fd/');
INSERT INTO "connections" VALUES(2,'old',1,NULL,0,'','',0,0.0,'','',0,0,0.0,'');
CREATE TABLE health (
	connection INTEGER NOT NULL, 
	work TEXT NOT NULL, 
	failures INTEGER NOT NULL, 
	retry_at FLOAT NOT NULL, 
	failure TEXT NOT NULL, 
	passed_at FLOAT NOT NULL, 
	PRIMARY KEY (connection, work), 
	FOREIGN KEY(connection) REFERENCES connections (id)
);
INSERT INTO "health" VALUES(1,'completions',1,1800000030.0,'It is down.',0.0);
CREATE TABLE milestones (
	connection INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	PRIMARY KEY (connection, "key"), 
	FOREIGN KEY(connection) REFERENCES connections (id)
)
 WITHOUT ROWID

;
INSERT INTO "milestones" VALUES(1,'Z.json');
INSERT INTO "milestones" VALUES(1,'a.json');
CREATE TABLE objects (
	connection INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	version TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	PRIMARY KEY (connection, "key"), 
	FOREIGN KEY(connection) REFERENCES connections (id)
)
 WITHOUT ROWID

;
INSERT INTO "objects" VALUES(1,' b.json','a55015f372749582b495f60ff02bdf44',25,'loaded');
INSERT INTO "objects" VALUES(1,'Z.json','408e1cef23e0b2bdaf6e5ae33a8d8734',18,'loaded');
INSERT INTO "objects" VALUES(1,'a.json','c8f66df0a491832a0f2b92af019e9339',18,'loaded');
INSERT INTO "objects" VALUES(1,'bad.json','83e12cc6068a0f3c5555be0d55fb01bb',8,'quarantined');
INSERT INTO "objects" VALUES(1,'gone.json','accf5948d3e47b422b1e21f4218ed381',21,'removed');
INSERT INTO "objects" VALUES(1,'lines.jsonl','99269d435756fe42bb1c346a296206cb',17,'loaded');
INSERT INTO "objects" VALUES(1,'ü.json','cba862fee3f386fb2285cc0865afb49a',23,'loaded');
CREATE TABLE quarantine (
	connection INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	"row" INTEGER NOT NULL, 
	version TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	reading TEXT NOT NULL, 
	PRIMARY KEY (connection, "key", "row"), 
	FOREIGN KEY(connection) REFERENCES connections (id)
);
INSERT INTO "quarantine" VALUES(1,'bad.json',-1,'83e12cc6068a0f3c5555be0d55fb01bb','Not JSON: Expecting value (line 1, column 1).','json');
INSERT INTO "quarantine" VALUES(1,'lines.jsonl',1,'99269d435756fe42bb1c346a296206cb','A task is a JSON object; here stands a list.','json');
CREATE TABLE revisions (
	connection INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	document JSON NOT NULL, 
	saved_at FLOAT NOT NULL, 
	saved_by TEXT NOT NULL, 
	PRIMARY KEY (connection, number), 
	FOREIGN KEY(connection) REFERENCES connections (id)
);
INSERT INTO "revisions" VALUES(1,1,'{"name": "reviews", "source": {"path": "bucket", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "data_key": "", "use_blob_urls": false, "on_change": "update", "on_delete": "keep"}, "type": "s3"}, "target": {"path": "labels", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "kms_key_id": "", "delete": false, "snapshot_minutes": 60, "snapshot_cron": "", "snapshots_kept": 30, "snapshots_kept_days": 30, "validation_share": 0.1, "test_share": 0.1, "skipped_at_most": 0.2, "agreement_at_least": 0.5, "labels_within_days": 7, "formats": []}, "type": "s3-completions"}, "project": "Reviews", "label_config": "<View><Text name=\"t\" value=\"$text\"/>\n<Choices name=\"c\" toName=\"t\"><Choice value=\"A\"/><Choice value=\"B\"/></Choices></View>", "enabled": true}',1800000000.0,'test');
INSERT INTO "revisions" VALUES(1,2,'{"name": "reviews", "source": {"path": "bucket", "params": {"prefix": "other/", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "data_key": "", "use_blob_urls": false, "on_change": "update", "on_delete": "keep"}, "type": "s3"}, "target": {"path": "labels", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "kms_key_id": "", "delete": false, "snapshot_minutes": 60, "snapshot_cron": "", "snapshots_kept": 30, "snapshots_kept_days": 30, "validation_share": 0.1, "test_share": 0.1, "skipped_at_most": 0.2, "agreement_at_least": 0.5, "labels_within_days": 7, "formats": []}, "type": "s3-completions"}, "project": "Reviews", "label_config": "<View><Text name=\"t\" value=\"$text\"/>\n<Choices name=\"c\" toName=\"t\"><Choice value=\"A\"/><Choice value=\"B\"/></Choices></View>", "enabled": true}',1800000000.0,'test');
INSERT INTO "revisions" VALUES(2,1,'{"name": "old", "source": {"path": "bucket", "params": {"prefix": "other/", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "data_key": "", "use_blob_urls": false, "on_change": "update", "on_delete": "keep"}, "type": "s3"}, "target": {"path": "labels", "params": {"prefix": "", "regex": "", "create_local_copy": false, "endpoint_url": "", "region_name": "", "role_arn": "", "external_id": "", "kms_key_id": "", "delete": false, "snapshot_minutes": 60, "snapshot_cron": "", "snapshots_kept": 30, "snapshots_kept_days": 30, "validation_share": 0.1, "test_share": 0.1, "skipped_at_most": 0.2, "agreement_at_least": 0.5, "labels_within_days": 7, "formats": []}, "type": "s3-completions"}, "project": "Reviews", "label_config": "<View><Text name=\"t\" value=\"$text\"/>\n<Choices name=\"c\" toName=\"t\"><Choice value=\"A\"/><Choice value=\"B\"/></Choices></View>", "enabled": true}',1800000000.0,'test');
CREATE TABLE tasks (
	connection INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	"row" INTEGER NOT NULL, 
	version TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	task_id BIGINT NOT NULL, 
	PRIMARY KEY (connection, "key", "row"), 
	FOREIGN KEY(connection) REFERENCES connections (id)
)
 WITHOUT ROWID

;
INSERT INTO "tasks" VALUES(1,' b.json',0,'a55015f372749582b495f60ff02bdf44','04f1d54d1b4b90eed37d57480bb6b215453396483527c83306cc37e10907dd0c',1);
INSERT INTO "tasks" VALUES(1,'Z.json',0,'408e1cef23e0b2bdaf6e5ae33a8d8734','b9b5fed6a06564c39f903cdb5f4ddc42a26a6fc94b78f9ca1e452583c1798d89',2);
INSERT INTO "tasks" VALUES(1,'a.json',0,'c8f66df0a491832a0f2b92af019e9339','816ad60947985d0f9322577514526acb339ed3989eb7042c93d314b5811f05ed',3);
INSERT INTO "tasks" VALUES(1,'gone.json',0,'accf5948d3e47b422b1e21f4218ed381','2aea935949f4226c5a4d12b8dbee7ede2b32422b5d7536c1e914ea03940c9bcd',4);
INSERT INTO "tasks" VALUES(1,'lines.jsonl',0,'99269d435756fe42bb1c346a296206cb','03f99d421d963259129b9e97e1f2911d265b60bb7fd7349a06605daa3d86a828',5);
INSERT INTO "tasks" VALUES(1,'ü.json',0,'cba862fee3f386fb2285cc0865afb49a','fa8702698490ccc424f41b0314e8683548cbac255b29ceb2243c7b92505c0d55',6);
CREATE INDEX ix_connections_name ON connections (name);
CREATE UNIQUE INDEX connections_in_use ON connections (name) WHERE removed = 0;
CREATE INDEX ix_attempts_connection ON attempts (connection);
COMMIT;
