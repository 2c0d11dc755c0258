"""A GCS server whose objects are synthetic, so that it costs less than the clients it measures.

It speaks ``objects.list`` of the JSON API (prefix, startOffset, pageToken, maxResults,
prettyPrint). Everything else is as in `benchmarks.synthetic_s3`.

    python -m benchmarks.synthetic_gcs --objects 1000000 --latency 0.08
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from benchmarks.synthetic_s3 import (
    CACHED_PAGES,
    NEW,
    OLD,
    PAGE,
    CachedPage,
    Store,
    Stores,
    main,
    size,
    synthetic_server,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

OBJECTS, END = "/storage/v1/b/", "/o"


def listing(store: Store, query: str) -> CachedPage:
    """Build the response to ``objects.list``, in the form that the service writes."""
    params = dict(parse_qsl(query, keep_blank_values=True))
    after, token = params.get("startOffset", ""), params.get("pageToken", "")
    limit = min(int(params.get("maxResults", PAGE)), PAGE)
    prefix = params.get("prefix", "")
    is_first = not token and after.startswith(prefix) and store.has(after)  # it is inclusive
    keys, more = store.page(prefix, token or after, limit - is_first)
    keys = [after] * is_first + keys
    extra, is_compact = set(store.extra), params.get("prettyPrint") == "false"
    document = {
        "kind": "storage#objects",
        **({"nextPageToken": keys[-1]} if more else {}),
        "items": [
            {
                "name": key,
                "generation": str(1_700_000_000_000_000 + len(key)),
                "size": str(size(key)),
                "updated": NEW if key in extra else OLD,
            }
            for key in keys
        ],
    }
    form: Any = {"separators": (",", ":")} if is_compact else {"indent": 2}
    response = json.dumps(document, **form)
    return CachedPage(after, keys[-1] if more else None, response.encode())


def respond(stores: Stores, method: str, target: str, sent: bytes) -> tuple[int, str, bytes]:
    """Return status, headers and body for a listing; nothing else exists."""
    path, _, query = target.partition("?")
    if method != "GET" or sent or not (path.startswith(OBJECTS) and path.endswith(END)):
        return 404, "", b"{}"
    store = stores[unquote(path.removeprefix(OBJECTS).removesuffix(END))]
    if query not in store.pages:
        if len(store.pages) >= CACHED_PAGES:
            store.pages.pop(next(iter(store.pages)))
        store.pages[query] = listing(store, query)
    return 200, "Content-Type: application/json\r\n", store.pages[query].response


def synthetic_gcs(objects: int, latency: float = 0.0) -> AbstractContextManager[str]:
    """Run this server in a process of its own; yield its URL."""
    return synthetic_server("benchmarks.synthetic_gcs", objects, latency)


if __name__ == "__main__":
    main(respond)
