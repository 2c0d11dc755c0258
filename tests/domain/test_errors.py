"""The tree of errors, as drawn and as it is, and their two sentences."""

import importlib
import pkgutil

import ls_pipeline
from ls_pipeline.domain import errors
from ls_pipeline.domain.errors import BucketError, BucketNotFoundError, PipelineError


def drawn_tree():
    """Return each class that the module's docstring draws, with the class above it."""
    parents, path = {}, []
    for line in errors.__doc__.split("::\n\n")[1].split("\n\n")[0].splitlines():
        name = line.lstrip(" │├└─").split()[0]
        depth = (line.index(name) - 4) // 4
        parents[name] = path[depth - 1] if depth else "Exception"
        path[depth:] = [name]
    return parents


def test_drawn_tree_is_that_of_the_classes():
    for module in pkgutil.walk_packages(ls_pipeline.__path__, "ls_pipeline."):
        if ".migrations." not in module.name:
            importlib.import_module(module.name)
    classes, parents = [PipelineError], {}
    while classes:
        error = classes.pop()
        parents[error.__name__] = error.__base__.__name__
        classes += [one for one in error.__subclasses__() if one.__module__.startswith("ls_pip")]

    assert drawn_tree() == parents


def test_text_is_the_message_and_the_hint():
    error = BucketNotFoundError("s3://b/")

    assert (error.message, error.hint) == (
        "s3://b/: the bucket does not exist.",
        "Create it, or correct the path.",
    )
    assert str(error) == f"{error.message} {error.hint}"


def test_error_without_a_hint_is_its_message():
    error = BucketError("s3://b/", "it failed.")

    assert (str(error), error.hint) == ("s3://b/: it failed.", "")


def test_what_strangers_wrote_controls_nothing():
    error = PipelineError("a\x1b[2J\nb", hint="c\u202e", details=["d\r", "e"])

    assert (error.message, error.hint) == (r"a\x1b[2J\nb", r"c\u202e")
    assert str(error) == "a\\x1b[2J\\nb c\\u202e\n  d\\r\n  e"
