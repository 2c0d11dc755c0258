import weakref

from ls_pipeline.resources.client_cache import SECONDS, TTLCache


class Circle:
    """As clients are: it holds itself."""

    def __init__(self):
        self.itself = self


def test_the_same_is_given_for_a_while_then_another_and_what_was_is_gone():
    now = [0.0]
    kept = TTLCache(Circle, lambda: now[0])
    first = weakref.ref(kept.get())
    now[0] = SECONDS - 1
    same = kept.get() is first()
    now[0] = SECONDS
    second = kept.get()

    assert (same, first()) == (True, None)
    assert kept.get() is second
