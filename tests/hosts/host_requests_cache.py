"""Owns the check of tmem.requests_cache by requests-cache's common tests of backends; the server
they ask is one of this machine, which pytest-httpbin starts."""


def check(host):
    host.install(
        "requests-cache==1.3.3", "pytest-httpbin", "requests-mock", "responses", "tenacity", "time-machine", "psutil",
        "rich",
    )
    source = host.source("requests-cache==1.3.3")
    suite = host.add("requests_cache_suite.py", source / "tests" / "integration")
    host.pytest([suite], cwd=source, env={"USE_PYTEST_HTTPBIN": "true"}, plugins=["timeout", "pytest_httpbin.plugin"])
