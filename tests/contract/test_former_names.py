"""Owns the promise that what was pickled by an earlier version is read by this one."""
import pickle

import engine


def test_a_pickle_that_names_a_module_before_it_was_moved(eng):
    pool = eng.new_pool("p")
    assert pool.put((1, 2, 3), 0, b"page")
    now = pickle.dumps(pool, 0)
    before = now.replace(b"engine.api.pool\nopen_pool", b"engine.pool\nopen_pool").replace(
        b"engine.api.session\nattach", b"engine.session\nattach"
    )
    assert before.count(b"engine.pool") == before.count(b"engine.session") == 1
    found = pickle.loads(before)
    assert found.get((1, 2, 3), 0) == b"page"
    found.engine.close()
    assert engine.session.attach is engine.attach and engine.pool.open_pool
