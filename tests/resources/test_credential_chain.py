"""Whatever goes wrong in a chain of credentials is one sentence, which says what to correct."""

from __future__ import annotations

import json
import sys

import pytest

from ls_pipeline.domain.errors import BucketError, PipelineError
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.s3.bucket import S3Buckets, S3Options
from ls_pipeline.resources.s3.resource import s3_buckets
from ls_pipeline.resources.s3.sqs import SQSQueue

ROLE = "arn:aws:iam::123456789012:role/labels"
NO_SERVER = "http://127.0.0.1:9"
QUEUE = f"{NO_SERVER}/123456789012/labels"

PRINT = f'{sys.executable} -c \'print("""{{}}""")\''
EXPIRED = {
    "Version": 1,
    "AccessKeyId": "AKIA",
    "SecretAccessKey": "hunter2hunter2",
    "SessionToken": "t",
    "Expiration": "2020-01-01T00:00:00Z",
}


def listed(buckets, **options):
    list(buckets.open("pictures", S3Options(endpoint_url=NO_SERVER, **options)).pages())


USES = {
    "commands": lambda: listed(S3Buckets(max_attempts=1)),
    "dagster": lambda: listed(s3_buckets()),
    "role": lambda: listed(S3Buckets(max_attempts=1), role_arn=ROLE, region_name="eu-west-3"),
    "queue": lambda: SQSQueue(QUEUE, "eu-west-3").probe(),
}
FILES = {
    "absent": lambda _: None,
    "folder": lambda file: file.mkdir(),
    "not text": lambda file: file.write_bytes(b"\xff\xfe"),
}


def said(use):
    with pytest.raises(PipelineError) as caught:
        use()
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.fixture
def chain(environment):
    environment.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    environment.setenv("AWS_ENDPOINT_URL_STS", NO_SERVER)
    environment.setenv("AWS_MAX_ATTEMPTS", "1")
    return environment


@pytest.mark.parametrize("kind", ["absent", "folder"])
@pytest.mark.parametrize("use", USES)
def test_web_identity_token_that_can_not_be_read(chain, tmp_path, use, kind):
    FILES[kind](tmp_path / "token")
    chain.setenv("AWS_ROLE_ARN", ROLE)
    chain.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    message = said(USES[use])

    assert f"the file of AWS_WEB_IDENTITY_TOKEN_FILE ({tmp_path}/token) can't be read" in message
    assert "Correct AWS_WEB_IDENTITY_TOKEN_FILE" in message


def test_token_in_place_of_its_file_is_not_repeated(chain):
    chain.setenv("AWS_ROLE_ARN", ROLE)
    chain.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "hunter2")

    assert "the file of AWS_WEB_IDENTITY_TOKEN_FILE can't be read" in said(USES["commands"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/absent/aws-vault", "/absent/aws-vault, which AWS's configuration names, can't be used"),
        ("/", "which AWS's configuration names, can't be used"),
        (PRINT.format("hunter2"), "gave as AWS credentials can't be read (JSONDecodeError)"),
        (PRINT.format('["hunter2"]'), "gave as AWS credentials can't be read"),
        (PRINT.format(json.dumps(EXPIRED)), "the AWS credentials are expired"),
        (f"{sys.executable} -c 'exit(1)'", "Error when retrieving credentials"),
    ],
    ids=["absent", "folder", "not JSON", "a list", "expired", "exit code"],
)
@pytest.mark.parametrize("use", ["commands", "dagster", "role"])
def test_credential_process_that_fails(chain, tmp_path, use, command, words):
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {command}\n")
    chain.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    assert words in said(USES[use])


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b"hunter2", b"[default\nx=hunter2"])
def test_shared_file_that_is_none(chain, tmp_path, variable, content):
    (tmp_path / "file").write_bytes(content)
    chain.setenv(variable, str(tmp_path / "file"))

    assert "AWS" in said(USES["commands"])


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_shared_file_of_windows_is_named(chain, tmp_path, variable, encoding):
    (tmp_path / "file").write_text("[default]\r\nregion = eu-west-3\r\n", encoding)
    chain.setenv(variable, str(tmp_path / "file"))

    assert f"{tmp_path}/file. Correct that file, AWS_CONFIG_FILE or AWS_S" in said(USES["commands"])


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_shared_file_that_can_not_be_read_is_named_if_something_lacks(
    chain, tmp_path, variable, kind
):
    FILES[kind](tmp_path / "{file}")
    chain.delenv("AWS_SHARED_CREDENTIALS_FILE")
    chain.setenv(variable, str(tmp_path / "{file}"))
    without_keys = said(USES["commands"])
    chain.setenv("AWS_PROFILE", "labels")

    for message in (without_keys, said(USES["commands"])):
        assert f", as the file of {variable} ({tmp_path}/{{file}}) can't be read" in message


@pytest.mark.parametrize(
    "setting",
    [f"role_arn = {ROLE}\nsource_profile = absent", f"role_arn = {ROLE}\ncredential_source = X"],
)
def test_configuration_that_is_wrong_is_named(chain, tmp_path, setting):
    (tmp_path / "config").write_text(f"[default]\n{setting}\n")
    chain.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    assert "Correct that in AWS_CONFIG_FILE or ~/.aws/config" in said(USES["commands"])


def test_login_in_a_configured_address_is_not_shown(chain, tmp_path):
    address = NO_SERVER.replace("//", "//me:hunter2@")
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {address}\n")
    chain.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    chain.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    chain.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    assert "S3 at http://***@127.0.0.1:9" in said(
        lambda: S3Buckets(max_attempts=1).open("pictures").get("k")
    )


@pytest.mark.parametrize("profile", ["", "absent"])
def test_profile_that_is_absent_is_named_with_its_variable(chain, profile):
    chain.setenv("AWS_PROFILE", profile)
    message = said(USES["commands"])

    assert f"profile ({profile}) could not be found" in message
    assert "Correct AWS_PROFILE, or unset it" in message


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"-----BEGIN CERTIFICATE-----\nx\n"])
@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_file_without_certificates_is_named_with_its_variable(chain, tmp_path, variable, content):
    (tmp_path / "file").write_bytes(content)
    chain.setenv(variable, str(tmp_path / "file"))
    is_s3 = variable.startswith("AWS")
    use = USES["commands"] if is_s3 else lambda: GCSBuckets(project="p").open("b")

    assert f"{variable} names a file without certificates that can be read" in said(use)


@pytest.mark.parametrize("value", ["/absent", "~/absent"])
def test_certificates_that_can_not_be_read(chain, value):
    chain.setenv("AWS_CA_BUNDLE", value)

    assert "AWS_CA_BUNDLE names a file that can't be read. Correct it." in said(USES["commands"])


@pytest.mark.parametrize(
    "variable", ["AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS"]
)
def test_number_that_is_none(chain, variable):
    chain.setenv(variable, "2s")

    assert f"{variable} is not a whole number. Set it again" in said(USES["commands"])


KEY = {
    "type": "service_account",
    "client_email": "a@b.c",
    "token_uri": "http://127.0.0.1:9",
    "private_key": "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize(
    "write",
    [
        *FILES.values(),
        lambda file: file.write_text("hunter2"),
        lambda file: file.write_text('["hunter2"]'),
        lambda file: file.write_text('{"type": "other"}'),
        lambda file: file.write_text(json.dumps(KEY)),
        lambda file: file.write_text(json.dumps({**KEY, "private_key": 5})),
        lambda file: file.write_text(json.dumps({"type": "authorized_user", "client_id": []})),
    ],
)
def test_google_key_that_is_none(environment, tmp_path, write):
    write(tmp_path / "key")
    environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key"))

    assert "Set GOOGLE_APPLICATION_CREDENTIALS" in said(lambda: GCSBuckets(project="p").open("b"))


def test_google_key_with_a_byte_order_mark_is_named(environment, tmp_path):
    (tmp_path / "key").write_text(json.dumps(KEY), "utf-8-sig")
    environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key"))

    assert "without a byte order mark" in said(lambda: GCSBuckets(project="p").open("b"))


def test_google_certificates_that_can_not_be_read(environment):
    environment.setenv("REQUESTS_CA_BUNDLE", "/absent")

    with pytest.raises(BucketError, match="REQUESTS_CA_BUNDLE names a file that can't be read"):
        GCSBuckets(project="p").open("b")
