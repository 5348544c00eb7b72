"""Owns the check of tmem.joblib: joblib's tests of Memory, with our store as the one that is used
when nothing is said."""
import os

VERSION = "1.6.0"

OF_FILES = "looks into the folders and files of joblib's own store"
OF_MAPPINGS = "wants an array that is mapped from a file; ours lies in the arena"
OF_GARBAGE = "writes garbage into a file; our outputs cannot be written from outside"
LEFT_OUT = {
    "test_parallel_call_cached_function_defined_in_jupyter": OF_FILES,
    "test_func_dir": OF_FILES,
    "test_persistence": OF_FILES,
    "test__get_items$": OF_FILES,
    "test_memory_clear": OF_FILES,
    "test_call_and_shelve_lazily_load_stored_result": OF_FILES,
    "test_memory_creates_gitignore": OF_FILES,
    "test_memorized_result_forwards_mmap_mode": OF_MAPPINGS,
    "test_memory_numpy_check_mmap_mode": OF_MAPPINGS,
    "test_memory_recomputes_after_an_error_while_loading_results": OF_GARBAGE,
}


def check(host):
    host.install(f"joblib=={VERSION}", "pytest-asyncio>=1")
    folder = host.source(f"joblib=={VERSION}")
    here = os.path.dirname(__file__)
    host.pytest(
        [
            "-o", "addopts=", "-o", "asyncio_default_fixture_loop_scope=function",
            "-W", "ignore::pytest.PytestUnknownMarkWarning",
            "joblib/test/test_memory.py", "joblib/test/test_memory_async.py",
        ],
        cwd=folder,
        env={"PYTHONPATH": os.pathsep.join([str(folder), here])}, left_out=LEFT_OUT,
        plugins=["joblib_plugin", "pytest_asyncio.plugin"],
    )
