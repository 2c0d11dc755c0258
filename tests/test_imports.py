"""Modules do not import each other in a cycle, not even for their types."""

import grimp


def test_imports_have_no_cycle():
    graph = grimp.build_graph("ls_pipeline", cache_dir=None)
    cycles = [
        f"{importer} -> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if graph.chain_exists(importer=imported, imported=importer)
    ]

    assert cycles == []
