"""Connections that code declares, and what people change in Dagster."""

import pytest

from ls_pipeline.domain.errors import ConnectionsFileError
from ls_pipeline.engine.declare import apply_declarations
from ls_pipeline.settings.declarations import read_declarations
from tests.bench import CONFIG

PLACE = "defs/labeling/defs.yaml"


@pytest.fixture
def declare(empty_ledger, tmp_path):
    """Return a function that applies declarations; it returns what failed."""

    def apply(place=PLACE, has_time=lambda: True, **connections):
        outcomes = apply_declarations(
            empty_ledger, read_declarations(connections, tmp_path, place), place, has_time
        )
        return {name: reason for name, reason in outcomes.items() if reason}

    return apply


@pytest.fixture
def edit(empty_ledger):
    """Return a function that saves params of the source, or settings, as a person does."""

    def save(name="cats", params=None, **settings):
        connection = empty_ledger.connection(name)
        if params:
            changed = connection.source.params.model_copy(update=params)
            source = connection.source.model_copy(update={"params": changed})
            settings["source"] = source
        empty_ledger.save(connection.model_copy(update=settings), "Ada")

    return save


def entry(path="pictures", **params):
    return {"source": {"type": "s3", "path": path, "params": params}}


def params(ledger, name="cats"):
    return ledger.connection(name).source.params


def test_declared_connection_is_created(declare, empty_ledger):
    failures = declare(cats=entry(prefix="in"), dogs={**entry("dogs"), "label_config": CONFIG})

    assert (failures, empty_ledger.names()) == ({}, ["cats", "dogs"])
    assert (params(empty_ledger).prefix, empty_ledger.connection("cats").project) == ("in", "cats")
    assert empty_ledger.connection("dogs").label_config == CONFIG


def test_same_declaration_again_writes_nothing(declare, empty_ledger):
    declare(cats=entry(prefix="in"))
    declare(cats=entry(prefix="in"))

    assert len(empty_ledger.connection_ledger("cats").settings.history()) == 1


def test_what_a_person_saves_survives_the_next_deployment(declare, edit, empty_ledger):
    declare(cats=entry(prefix="in"))
    edit(params={"prefix": "mine"}, enabled=False)
    declare(cats=entry(prefix="in"))

    assert params(empty_ledger).prefix == "mine"
    assert not empty_ledger.connection("cats").enabled


def test_only_what_changes_in_the_declaration_is_applied(declare, edit, empty_ledger):
    declare(cats=entry(prefix="in", regex="a"))
    edit(params={"prefix": "mine", "on_delete": "delete"})
    declare(cats=entry(prefix="in", regex="b"))
    now = params(empty_ledger)

    assert (now.prefix, now.regex, now.on_delete) == ("mine", "b", "delete")
    assert empty_ledger.connection_ledger("cats").settings.in_force().saved_by == PLACE


def test_param_that_is_declared_no_more_has_its_default(declare, edit, empty_ledger):
    declare(cats=entry(prefix="in", regex="a"))
    edit(params={"on_delete": "delete"})
    declare(cats=entry(prefix="in"))
    now = params(empty_ledger)

    assert (now.prefix, now.regex, now.on_delete) == ("in", "", "delete")


def test_connection_that_existed_before_keeps_what_is_not_declared(declare, edit, empty_ledger):
    declare("another/defs.yaml", cats=entry())
    edit(params={"regex": "a", "prefix": "mine"}, label_config=CONFIG, enabled=False)
    declare(cats=entry(prefix="in"))
    now = empty_ledger.connection("cats")

    assert (now.source.params.prefix, now.source.params.regex) == ("in", "a")
    assert (now.label_config, now.enabled) == (CONFIG, False)


def test_side_that_a_person_added_stays(declare, edit, empty_ledger):
    declare(cats=entry())
    target = read_declarations(
        {"any": {"target": {"type": "s3-completions", "path": "labels"}}}, None, ""
    )["any"].connection.target
    edit(target=target)
    declare(cats=entry(prefix="in"))

    assert empty_ledger.connection("cats").target == target


def test_connection_that_is_declared_no_more_is_disabled_once(declare, edit, empty_ledger):
    declare(cats=entry(), dogs=entry("dogs"))
    declare(dogs=entry("dogs"))
    disabled = empty_ledger.connection("cats").enabled
    edit(enabled=True)
    declare(dogs=entry("dogs"))

    assert (disabled, empty_ledger.connection("cats").enabled) == (False, True)
    assert empty_ledger.connection("dogs").enabled


def test_connection_that_is_declared_again_is_enabled(declare, empty_ledger):
    declare(cats=entry())
    declare()
    declare(cats=entry())

    assert empty_ledger.connection("cats").enabled


def test_connection_that_a_person_removed_stays_removed(declare, empty_ledger):
    declare(cats=entry())
    empty_ledger.remove("cats")
    declare(cats=entry())
    removed = empty_ledger.names()
    declare(cats=entry(prefix="new"))

    assert (removed, empty_ledger.names()) == ([], ["cats"])


def test_place_disables_only_what_it_declared(declare, empty_ledger):
    declare(cats=entry())
    declare("another/defs.yaml", dogs=entry("dogs"))

    assert empty_ledger.connection("cats").enabled


def test_declaration_that_can_not_be_applied_stops_no_other(declare, empty_ledger):
    from ls_pipeline.resources.ledger.records import Intent, Kind

    declare(cats=entry())
    with empty_ledger.acquire("cats") as held:
        held.intents.begin(Intent(Kind.IMPORT, (), "", 1))
    failures = declare(cats=entry("elsewhere"), dogs=entry("dogs"))

    assert empty_ledger.names() == ["cats", "dogs"]
    assert failures["cats"].startswith("Its declaration can't be applied: ")
    assert "whose tasks are loaded" in failures["cats"]


def test_next_call_continues_if_the_time_is_over(declare, empty_ledger):
    connections = {name: entry(name) for name in ("cats", "dogs", "birds")}
    answers = iter([True, False, False])
    declare(has_time=lambda: next(answers), **connections)
    first = len(empty_ledger.names())
    declare(**connections)

    assert (first, len(empty_ledger.names())) == (1, 3)


def test_settings_that_changed_at_the_same_moment_are_no_failure(declare, edit, empty_ledger):
    declare(cats=entry())
    settings_of = empty_ledger.settings_of

    def meanwhile(name):
        revision = settings_of(name)
        edit(params={"regex": "a"})
        return revision

    empty_ledger.settings_of = meanwhile
    overtaken = declare(cats=entry(prefix="in"))
    del empty_ledger.settings_of
    declare(cats=entry(prefix="in"))

    assert overtaken == {}
    assert (params(empty_ledger).prefix, params(empty_ledger).regex) == ("in", "a")


def test_every_fault_of_a_declaration_is_told(tmp_path):
    wrong = {"cats": {**entry(), "projekt": "Cats"}, "dogs": entry(refix="in")}

    with pytest.raises(ConnectionsFileError) as error:
        read_declarations(wrong, tmp_path, PLACE)
    assert str(error.value).startswith(f"{PLACE}: its connections can't be used.")
    assert "did you mean 'project'?" in str(error.value)
    assert "did you mean 'prefix'?" in str(error.value)


def test_label_config_may_be_a_file(tmp_path):
    (tmp_path / "cats.xml").write_text(CONFIG)
    declared = read_declarations(
        {"cats": {**entry(), "label_config_file": "cats.xml"}}, tmp_path, PLACE
    )["cats"]

    assert declared.document["label_config"] == CONFIG
    assert set(declared.settings()) == {"source.type", "source.path", "label_config"}
