"""Owns the check of tmem.langchain by LangChain's standard tests of caches and stores, which are a
distribution of their own."""


def check(host):
    host.install("langchain-tests==1.1.9", "pytest-asyncio")
    suite = host.add("langchain_suite.py", host.folder)
    host.pytest(
        ["-c", "/dev/null", "--rootdir", host.folder, "-o", "asyncio_mode=auto",
         "-o", "asyncio_default_fixture_loop_scope=function", suite],
        cwd=host.folder, plugins=["asyncio"],
    )
