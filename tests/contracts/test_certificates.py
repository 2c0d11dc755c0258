"""Servers whose certificates are signed by a company's own authority, or by themselves."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dagster_aws.s3 import S3Resource

from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.label_studio.client import BoundedClient, lazy_context
from ls_pipeline.resources.s3.bucket import S3Buckets, S3Options
from ls_pipeline.resources.s3.fast_objects import md5
from ls_pipeline.resources.s3.resource import s3_buckets
from tests.contracts.conftest import Answer

pytestmark = pytest.mark.slow

LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a file with a key and a certificate for 127.0.0.1, which it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "labels")])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    signed = builder.sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("certificate") / "labels.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def https(environment, fake_server, certificate):
    """Return the address of a server with that certificate, which answers as S3 and GCS do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    fake_server.socket = context.wrap_socket(fake_server.socket, server_side=True)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        environment.setenv(name, "us-east-1")
    return fake_server.url.replace("http://", "https://")


def list_s3(url):
    list(S3Buckets(max_attempts=1).open("pictures", S3Options(endpoint_url=url)).pages())


def list_gcs(_url):
    list(GCSBuckets(project="p", retry_seconds=0.5).open("pictures").pages())


def ask_label_studio(url):
    LabelStudio(url=url, api_key="k").version()


@pytest.mark.parametrize(
    ("use", "answer", "variable"),
    [
        (list_s3, Answer(LISTING), "AWS_CA_BUNDLE"),
        (
            list_gcs,
            Answer(b'{"kind": "storage#objects"}', headers={"content-type": "application/json"}),
            "REQUESTS_CA_BUNDLE",
        ),
        (ask_label_studio, Answer(b'{"release": "1.23.0"}'), "SSL_CERT_FILE"),
    ],
    ids=["s3", "gcs", "label studio"],
)
def test_certificate_of_a_companys_own_is_trusted_once_it_is_named(
    https, fake_server, environment, certificate, use, answer, variable
):
    fake_server.answer = answer
    environment.setenv("STORAGE_EMULATOR_HOST", https)

    with pytest.raises(PipelineError, match=rf"certificate .*is not trusted.* Set {variable} to"):
        use(https)
    environment.setenv(variable, str(certificate))
    use(https)


@pytest.mark.parametrize(
    ("use", "variable", "address"),
    [
        (list_s3, "AWS_CA_BUNDLE", "endpoint_url or AWS_ENDPOINT_URL"),
        (list_gcs, "REQUESTS_CA_BUNDLE", r"STORAGE_EMULATOR_HOST \(if set\)"),
        (ask_label_studio, "SSL_CERT_FILE", "LABEL_STUDIO_URL"),
    ],
    ids=["s3", "gcs", "label studio"],
)
def test_certificate_of_another_name_asks_for_another_address(
    https, environment, certificate, use, variable, address
):
    url = https.replace("127.0.0.1", "localhost")
    environment.setenv(variable, str(certificate))
    environment.setenv("STORAGE_EMULATOR_HOST", url)

    with pytest.raises(
        PipelineError, match=f"not trusted .*localhost.* Set {address} to a name that its cert"
    ):
        use(url)


@pytest.mark.parametrize("name", ["absent", "folder", "empty"])
def test_certificates_that_only_a_connection_reads_are_named(https, environment, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "config").write_text(f"[default]\nca_bundle = {tmp_path}/{name}\n")
    environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    environment.delenv("AWS_CA_BUNDLE", raising=False)

    with pytest.raises(PipelineError, match=r"certificates to trust can't be .*Set AWS_CA_BUNDLE"):
        list_s3(https)


def test_certificate_is_verified_behind_a_redirect_to_https(
    https, fake_server, environment, certificate
):
    fake_server.answer = Answer(b"")
    client = BoundedClient(verify=lazy_context())

    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get(https)
    environment.setenv("SSL_CERT_FILE", str(certificate))

    assert client.get(https).status_code == 200


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_resource_that_verifies_nothing_trusts_any_certificate(https, fake_server):
    body = b"abc"
    found = Answer(body, headers={"ETag": f'"{md5(body)}"'})
    fake_server.answer = lambda request: Answer(LISTING) if "list-type" in request.path else found
    bucket = s3_buckets(S3Resource(verify=False, max_attempts=1, endpoint_url=https)).open("b")

    assert (list(bucket.pages()), bucket.get("k", md5(body))) == ([], body)
