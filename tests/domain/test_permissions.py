import shlex

import pytest

from ls_pipeline.domain.permissions import (
    BucketUse,
    aws_partition,
    gcs_commands,
    gcs_label_studio_commands,
    label_studio_policy,
    role_policy,
    s3_policy,
)

KEY = "arn:aws:kms:eu-west-3:123456789012:key/k"


def allowed(policy):
    return {
        (action, statement["Resource"])
        for statement in policy["Statement"]
        for action in statement["Action"]
    }


def test_source_may_be_listed_and_read_below_its_folder_alone():
    policy = s3_policy([BucketUse("b", "in/")])

    assert allowed(policy) == {
        ("s3:ListBucket", "arn:aws:s3:::b"),
        ("s3:GetObject", "arn:aws:s3:::b/in/*"),
    }
    assert policy["Statement"][0]["Condition"] == {"StringLike": {"s3:prefix": "in/*"}}


def test_access_point_is_named_as_policies_name_it():
    access_point = "arn:aws:s3:eu-west-3:123456789012:accesspoint"

    assert allowed(s3_policy([BucketUse(f"{access_point}:labels", "in/")])) == {
        ("s3:ListBucket", f"{access_point}/labels"),
        ("s3:GetObject", f"{access_point}/labels/object/in/*"),
    }


def test_whole_bucket_needs_no_condition():
    assert "Condition" not in s3_policy([BucketUse("b", "")])["Statement"][0]


def test_target_may_be_written_too_and_nothing_deleted():
    actions = {action for action, _ in allowed(s3_policy([BucketUse("b", "out/", writes=True)]))}

    assert actions == {"s3:ListBucket", "s3:GetObject", "s3:PutObject"}


def test_source_and_target_share_a_policy():
    policy = s3_policy([BucketUse("a", ""), BucketUse("b", "", writes=True)])

    assert ("s3:GetObject", "arn:aws:s3:::a/*") in allowed(policy)
    assert ("s3:PutObject", "arn:aws:s3:::b/*") in allowed(policy)


@pytest.mark.parametrize(
    ("given", "resource"),
    [
        (KEY, KEY),
        ("k", "arn:aws:kms:*:*:key/k"),
        ("alias/labels", "arn:aws:kms:*:*:key/*"),
        ("arn:aws:kms:eu-west-3:1:alias/labels", "arn:aws:kms:eu-west-3:1:key/*"),
    ],
)
def test_key_may_encrypt_and_decrypt(given, resource):
    policy = s3_policy([BucketUse("b", "", writes=True, kms_key_id=given)])

    assert allowed(policy) >= {("kms:GenerateDataKey", resource), ("kms:Decrypt", resource)}
    condition = policy["Statement"][-1].get("Condition")
    assert condition == (
        {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/labels"}}
        if "alias" in given
        else None
    )


def test_wildcards_in_a_prefix_are_escaped():
    policy = s3_policy([BucketUse("b", "a*$?/")])

    assert policy["Statement"][1]["Resource"] == "arn:aws:s3:::b/a${*}${$}${?}/*"


def test_role_may_be_assumed():
    role = "arn:aws:iam::123456789012:role/labels"

    assert allowed(role_policy(role)) == {("sts:AssumeRole", role)}


def test_label_studio_may_request_the_bucket():
    assert "Condition" not in label_studio_policy(BucketUse("b", "in/"))["Statement"][0]


@pytest.mark.parametrize(
    ("region", "role", "name"),
    [
        ("", "", "aws"),
        ("eu-west-3", "", "aws"),
        ("cn-north-1", "", "aws-cn"),
        ("us-gov-west-1", "", "aws-us-gov"),
        ("", "arn:aws-cn:iam::123456789012:role/labels", "aws-cn"),
    ],
)
def test_partition_follows_region_or_role(region, role, name):
    assert aws_partition(region, role) == name


def test_gcs_whole_bucket_needs_one_role():
    (command,) = gcs_commands(BucketUse("b", ""))

    assert "--role=roles/storage.objectViewer" in command
    assert "--condition=None" in command  # or gcloud prompts, if another role has one


def test_label_studios_account_may_request_the_bucket():
    commands = gcs_label_studio_commands(BucketUse("b", ""))

    assert ["legacyBucketReader" in command for command in commands] == [False, True]
    assert len(gcs_label_studio_commands(BucketUse("b", "in/"))) == 2


def test_gcs_folder_is_a_condition_and_its_listing_a_role_of_its_own():
    objects, listing = (
        shlex.split(command) for command in gcs_commands(BucketUse("b", "it's/", writes=True))
    )
    below = 'resource.name.startsWith("projects/_/buckets/b/objects/it\'s/")'

    assert "--role=roles/storage.objectUser" in objects
    assert f"--condition=title=ls_pipeline,expression={below}" in objects
    assert "--role=roles/storage.legacyBucketReader" in listing
