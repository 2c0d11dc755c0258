import pytest

from ls_pipeline.domain.errors import InvalidConnectionError
from ls_pipeline.settings.validation import build_connection

TEXT = '<View><Text name="t" value="$text"/></View>'
TWO = '<View><Image name="i" value="$image"/><Text name="t" value="$text"/></View>'


ARN = "arn:aws:s3:eu-west-1:123456789012"


def make(source=None, target=None, **how):
    how = {"name": "reviews", "project": "Reviews", **how}
    return build_connection(how.pop("name"), source=source, target=target, **how)


def source(**params):
    return {"type": "s3", "path": "bucket", "params": params}


def target(path="labels", **params):
    return {"type": "s3-completions", "path": path, "params": params}


def errors(*args, **how):
    with pytest.raises(InvalidConnectionError) as caught:
        make(*args, **how)
    return caught.value.errors


def test_defaults_are_the_documented_ones():
    params = make(source()).source.params

    assert params.model_dump() == {
        "prefix": "",
        "regex": "",
        "data_key": "",
        "use_blob_urls": False,
        "format": "auto",
        "column_map": {},
        "create_local_copy": False,
        "run_hours_at_most": 12,
        "row_key": "",
        "sidecar_suffix": "",
        "manifest": "",
        "on_change": "update",
        "predictions_on_labeled": "leave",
        "on_delete": "keep",
        "tasks_per_project": 0,
        "notifications": "",
        "endpoint_url": "",
        "region_name": "",
        "role_arn": "",
        "external_id": "",
        "exclude": "",
        "addressing_style": "auto",
        "requester_pays": False,
        "media_buckets": [],
    }


@pytest.mark.parametrize(
    ("cron", "message"),
    [("6", "is not a cron expression"), ("0 6 31 4 *", "matches no date")],
)
def test_cron_that_never_comes_is_refused(cron, message):
    with pytest.raises(InvalidConnectionError, match=message):
        make(None, target(snapshot_cron=cron))


def test_group_of_another_form_is_refused():
    assert make(None, target(group_by="data:patient.id")).target.params.split_rule.needs_data

    (error,) = errors(None, target(group_by="patient"))
    assert error.startswith("The target group_by 'patient' must be data: with a key")


def test_endpoint_may_have_a_path():
    url = "https://abcd.storage.supabase.co/storage/v1/s3"

    assert make(source(endpoint_url=url)).source.params.endpoint_url == url


def test_access_point_is_stored_without_a_slash():
    made = make({"type": "s3", "path": f"{ARN}:accesspoint/labels"}).source

    assert made.root == f"s3://{ARN}:accesspoint:labels/"


def test_media_buckets_are_of_the_sources_cloud_unless_they_say_another():
    given = ["pictures", "s3://pictures/", "gs://sounds", "bucket"]

    media = make(source(media_buckets=given, region_name="eu-west-3")).source.media

    assert [part.root for part in media] == ["s3://pictures/", "gs://sounds/"]
    assert [part.params.region_name for part in media] == ["eu-west-3", ""]


def test_key_for_another_encryption_is_refused():
    with pytest.raises(InvalidConnectionError, match="has no effect with AES256"):
        make(None, target(kms_key_id="alias/a", server_side_encryption="AES256"))


def test_null_is_the_default():
    assert make(source(prefix=None, regex=None)).source.params.prefix == ""


def test_source_alone_and_target_alone_are_fine():
    assert make(source()).target is None
    assert make(None, target()).source is None


def test_source_and_target_may_be_on_different_clouds_under_one_name():
    assert make(source(), {"type": "gcs-completions", "path": "bucket"}).target.cloud == "gcs"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (source(regx="a"), "There is no source param 'regx' (did you mean 'regex'?)"),
        (source(regex="("), "The source regex '(' is not valid RE2"),
        (source(regex=r"(a)\1"), "is not valid RE2"),
        (source(regex="(?!.*_mask).*"), "Write what to leave out into the param exclude."),
        (source(exclude="("), "The source exclude '(' is not valid RE2"),
        (source(use_blob_urls="yes"), "'use_blob_urls' must be true or false, not \"yes\""),
        (source(prefix=7), "'prefix' must be a string, not 7"),
        ({"type": "azure", "path": "b"}, "The source 'type' must be 's3' or 'gcs', not \"azure\""),
        ({"type": "s3", "path": "s3://b"}, "a bucket's name, as in my-bucket"),
        ({"type": "s3", "path": ""}, "a bucket's name, as in my-bucket"),
        (source(on_change="replace"), "'on_change' must be 'update', 'new_task' or 'ignore'"),
        (source(endpoint_url="s3.example.com"), "endpoint_url must be a URL"),
        (source(endpoint_url="https://s3.example.com:port"), "endpoint_url must be a URL"),
        (source(endpoint_url="https://[::1"), "endpoint_url must be a URL"),
        (source(endpoint_url="https://s3.example.com/?key=1"), "without credentials and a query"),
        (source(addressing_style="host"), "must be 'auto', 'path' or 'virtual', not \"host\""),
        (source(media_buckets=["s3://a/b"]), "media bucket 's3://a/b' is not a bucket"),
        ({"type": "s3", "path": "arn:aws:s3:::cats"}, "write its name, 'cats'"),
        ({"type": "s3", "path": f"{ARN}:object-lambda/x"}, "is not an access point"),
        (
            {"type": "gcs", "path": f"{ARN}:accesspoint/labels"},
            "is not the name of a bucket on GCS",
        ),
        (
            {
                "type": "s3",
                "path": f"{ARN}:accesspoint/labels",
                "params": {"notifications": "https://sqs/1/q"},
            },
            "leave notifications out",
        ),
        (
            {"type": "gcs", "path": "b", "params": {"addressing_style": "path"}},
            "'addressing_style' is for S3 only",
        ),
        (source(role_arn="labels"), "role_arn 'labels' is not a role"),
        (source(external_id="7"), "'external_id' needs role_arn"),
        (
            {"type": "gcs", "path": "b", "params": {"region_name": "eu"}},
            "'region_name' is for S3 only",
        ),
        (source(notifications="arn:aws:sqs:eu-west-1:1:labels"), "is not an SQS queue's URL"),
        (source(notifications="https://key:secret@sqs/1/q"), "is not an SQS queue's URL"),
        (
            {"type": "gcs", "path": "b", "params": {"notifications": "https://sqs/1/q"}},
            "is not a Pub/Sub subscription, as in projects/",
        ),
    ],
)
def test_an_error_is_one_clear_sentence(given, message):
    (error,) = errors(given)

    assert message in error


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"format": "xlsx"}, "The source param 'format' must be 'auto', 'json'"),
        ({"column_map": {"a": "x", "b": "x"}}, "column_map makes 'x' of more than one column"),
        ({"column_map": {"a": 1}}, "must be a string"),
        ({"column_map": {"a\0": "b"}}, "column_map has text with a NUL"),
        ({"column_map": {"a": "b"}, "format": "json"}, "column_map is for CSV, TSV and Parquet"),
        ({"format": "csv", "use_blob_urls": True}, "format has no effect with use_blob_urls"),
    ],
)
def test_wrong_format_and_column_map_are_named(params, message):
    (error,) = errors(source(**params))

    assert message in error


def test_texts_need_one_data_key():
    settings = {"source": source(format="text"), "target": None, "project": "Pets"}
    two = '<View><Text name="a" value="$a"/><Text name="b" value="$b"/></View>'
    with pytest.raises(InvalidConnectionError, match="A text fills one data key"):
        build_connection("c", **settings, label_config=two)


@pytest.mark.parametrize(
    "params",
    [
        {"aws_secret_access_key": "hunter2"},
        {"google_application_credentials": "hunter2"},
        {"endpoint_url": "https://me:hunter2@s3.example.com"},
    ],
)
def test_secrets_are_refused_and_never_repeated(params):
    (error,) = errors(source(**params))

    assert "credentials" in error
    assert "hunter2" not in error


def test_all_errors_are_reported_at_once():
    reported = errors(source(regx="a", prefix=7), target(regex="("), name="a b", project="x")

    assert len(reported) == 5


@pytest.mark.parametrize(("prefix", "other"), [("", ""), ("", "labels"), ("a", "a/b"), ("a/", "a")])
def test_overlapping_source_and_target_are_refused(prefix, other):
    (error,) = errors(source(prefix=prefix), target("bucket", prefix=other))

    assert "exported files would become tasks" in error


def test_neighbouring_folders_of_one_bucket_do_not_overlap():
    assert make(source(prefix="in"), target("bucket", prefix="in-labels"))


def test_same_bucket_name_on_two_stores_does_not_overlap():
    assert make(
        source(endpoint_url="https://one.example.com"),
        target("bucket", endpoint_url="https://two.example.com"),
    )


def test_neither_source_nor_target_is_refused():
    assert "neither a source nor a target" in errors()[0]


def test_data_key_that_the_label_config_does_not_show_is_refused():
    (error,) = errors(source(data_key="image", use_blob_urls=True), label_config=TEXT)

    assert "does not show data_key 'image'; it shows 'text'" in error


def test_blobs_for_a_label_config_with_two_keys_are_refused():
    (error,) = errors(source(use_blob_urls=True), label_config=TWO)

    assert "A blob fills one data key" in error


def test_blobs_for_a_label_config_that_shows_nothing_are_refused():
    (error,) = errors(source(use_blob_urls=True), label_config="<View/>")

    assert "the label config shows none" in error


@pytest.mark.parametrize("params", [{}, {"use_blob_urls": True, "data_key": "image"}])
def test_label_config_that_shows_nothing_is_accepted_for_other_tasks(params):
    assert build_connection(
        "c", source=source(**params), target=None, project="Pets", label_config="<View/>"
    ).label_config
