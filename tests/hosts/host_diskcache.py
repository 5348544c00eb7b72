"""Owns the check of tmem.diskcache: diskcache's tests of its caches, with ours in their place."""
VERSION = "5.6.3"

OF_SQL = "is about SQLite"
OF_FILES = "is about files and folders"
OF_CULLING = "is about removing what is too much; an arena has a fixed size, and makes room by itself"
OF_DISKS = "is about classes that write to a disk"
OF_SETTINGS = "is about settings that are changed while they are in use"
OF_ORDER = "is about the order in which keys came; an arena has none, and so no queues"
OF_COUNTS = "is about counting that begins and ends"
OF_KEYS = "uses keys that are larger than 1 MiB, or equal to nothing but themselves"
LEFT_OUT = {
    "test_core.py::test_init$": OF_SETTINGS,
    "test_core.py::test_init_disk$": OF_DISKS,
    "test_core.py::test_init_makedirs$": OF_FILES,
    "test_core.py::test_disk_": OF_DISKS,
    "test_core.py::test_custom_disk$": OF_DISKS,
    "::test_custom_filename_disk$": OF_DISKS,
    "test_core.py::test_pragma": OF_SQL,
    "test_core.py::test_close_error$": OF_SQL,
    "::test_getsetdel$": OF_KEYS,
    "test_core.py::test_key_roundtrip$": OF_KEYS,
    "test_core.py::test_get_keyerror4$": OF_FILES,
    "test_core.py::test_set_twice$": OF_FILES,
    "test_core.py::test_path$": OF_FILES,
    "test_core.py::test_get_ioerror_fast_path$": OF_FILES,
    "test_core.py::test_pop_ioerror$": OF_FILES,
    "test_core.py::test_check$": OF_FILES,
    "test_core.py::test_integrity_check$": OF_FILES,
    "test_core.py::test_cleanup_dirs$": OF_FILES,
    "::test_copy$": OF_FILES,
    "::test_rsync$": OF_FILES,
    "_timeout$": OF_SQL,
    "test_core.py::test_get_expired_slow_path$": OF_SETTINGS,
    "test_core.py::test_lru_incr$": OF_SETTINGS,
    "test_core.py::test_least_": OF_CULLING,
    "test_core.py::test_expire": OF_CULLING,
    "::test_size_limit_": OF_CULLING,
    "test_core.py::test_cull_": OF_CULLING,
    "test_core.py::test_custom_eviction_policy$": OF_CULLING,
    "::test_tag_index$": OF_SQL,
    "test_core.py::test_iter$": OF_ORDER,
    "::test_iter_expire$": OF_CULLING,
    "::test_reversed$": OF_ORDER,
    "test_core.py::test_push_": OF_ORDER,
    "test_core.py::test_pull_": OF_ORDER,
    "test_core.py::test_peek": OF_ORDER,
    "test_core.py::test_constant$": OF_SQL,
    "::test_stats$": OF_COUNTS,
    "test_core.py::test_memoize_ignore$": "counts misses; what is computed is looked for twice, which are two",
    "test_fanout.py::test_init$": OF_SETTINGS,
    "test_fanout.py::test_expire$": OF_CULLING,
    "test_fanout.py::test_volume$": OF_FILES,
    "::test_creates_cache_dir_if_nonexistent$": OF_FILES,
    "::test_deque$": OF_ORDER,
    "::test_index$": OF_ORDER,
    "test_recipes.py::test_averager$": "is about a recipe that is not there",
    "test_recipes.py::test_semaphore$": "is about a recipe that is not there",
}


def check(host):
    host.install("django>=4.2")
    folder = host.source(f"diskcache=={VERSION}")
    host.pytest(
        [
            "-c", "setup.cfg",      # which has no settings of pytest
            "tests/test_core.py", "tests/test_fanout.py", "tests/test_djangocache.py", "tests/test_recipes.py",
        ],
        cwd=folder, left_out=LEFT_OUT, plugins=["diskcache_plugin"],
    )
