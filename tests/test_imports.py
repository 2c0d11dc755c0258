"""Modules import each other in no circle, also not for their types alone."""

import grimp

UNFINISHED = ("ls_pipeline.resources.ledger",)
"""Packages whose circles are not untied yet."""


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph("ls_pipeline", cache_dir=None)
    circular = [
        f"{importer} -> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if not importer.startswith(UNFINISHED)
        if graph.chain_exists(importer=imported, imported=importer)
    ]

    assert circular == []
