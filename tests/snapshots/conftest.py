"""Owns what is different about the arenas of these tests: longer pages."""
import pytest


@pytest.fixture
def make_arena(make_arena):
    def make(**arguments):
        return make_arena(**{"page_size": 4096, **arguments})

    return make
