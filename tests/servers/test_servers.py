"""Owns what a far tier on real servers promises while they are well: by each client library, on a
cluster and on a server alone, with TLS and with access lists.
"""
import os
import subprocess
import threading
from pathlib import Path

import pytest

import engine
from tests.contract.fars import assert_sound, content, fill, get, stats
from tests.servers.conftest import needs
from tests.servers.pools import PAGES, assert_all_there, make
from tests.servers.servers import Servers, free_ports
from tests.stopped import fork


def test_pages_go_to_a_cluster_and_come_back(make_arena, cluster, client):
    pool = make(make_arena, cluster.target(client=client))
    fill(pool, PAGES)
    assert_all_there(pool)
    said = stats(pool)
    assert said["far_hits"] > 100 and said["far_misses_gone"] == said["checksum_bad"] == said["far_failed"] == 0
    rows = pool.far_nodes
    assert [row["address"] for row in rows] == sorted(server.address for server in cluster.masters)
    assert all(row["asked"] and not row["open_for"] and sum(row["times"]) == row["asked"] for row in rows)
    names = cluster.names()
    assert len(names) >= said["far_pages"] and all(name.startswith(b"tmem:") for name in names)
    assert all(0 < server.ask("PTTL", name) <= 24 * 3600 * 1000 for name, server in list(names.items())[:9])
    assert_sound(pool.engine)


def test_a_range_is_one_batch_a_node(make_arena, cluster, client):
    pool = make(make_arena, cluster.target(client=client))
    fill(pool, PAGES)
    before = sum(row["asked"] for row in pool.far_nodes)
    assert pool.get_range((0, 0, 0), 0, 16) == b"".join(content(n) for n in range(16))
    assert sum(row["asked"] for row in pool.far_nodes) - before <= 3


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_server_alone(make_arena, tmp_path, client, kind):
    needs(kind)
    with Servers(tmp_path, 1, kind=kind, cluster=False) as servers:
        pool = make(make_arena, servers.target(client=client))
        fill(pool, PAGES)
        assert_all_there(pool)
        assert [row["address"] for row in pool.far_nodes] == [servers.all[0].address]


def test_a_cluster_of_redis(make_arena, tmp_path, client):
    needs("redis")
    with Servers(tmp_path, kind="redis") as servers:
        pool = make(make_arena, servers.target(client=client))
        fill(pool, PAGES)
        assert_all_there(pool)


def test_what_is_dead_is_dropped_there(make_arena, cluster, any_client):
    pool = make(make_arena, cluster.target(client=any_client))
    fill(pool, PAGES)
    assert cluster.names()
    pool.clear()
    for _ in range(40):
        pool.engine.tend()
    assert not cluster.names() and stats(pool)["garbage_dropped"] == 0


def test_a_page_lives_there_no_longer_than_it_may(make_arena, cluster, any_client):
    pool = make(make_arena, cluster.target(client=any_client, ttl="1h"))
    for n in range(900):
        assert pool.put_object((n, 0, 0), content(n), ttl=50 if n % 2 else None)
        if n % 32 == 31:
            pool.engine.spill()
    left = {server.ask("PTTL", name) > 50_000 for name, server in cluster.names().items()}
    assert left == {True, False}
    assert all(server.ask("PTTL", name) <= 3600_000 for name, server in cluster.names().items())


def test_two_arenas_on_one_cluster(make_arena, cluster, any_client):
    pools = [make(make_arena, cluster.target(client=any_client)) for _ in range(2)]
    for pool in pools:
        fill(pool, PAGES)
    nonces = {name.split(b":")[1] for name in cluster.names()}
    assert len(nonces) == 2
    pools[0].destroy()
    pools[0].engine.far_gc()
    assert_all_there(pools[1])


def test_a_forked_child_and_threads(make_arena, cluster, client):
    pool = make(make_arena, cluster.target(client=client))
    fill(pool, PAGES)

    def child():
        mine = engine.attach(pool.engine.name).pool("p")
        for which in (pool, mine):
            assert sum(get(which, n) == content(n) for n in range(0, PAGES, 9)) == len(range(0, PAGES, 9))
    for _ in range(2):
        pid = fork(child)
        assert os.waitpid(pid, 0)[1] == 0
    wrong = []
    threads = [threading.Thread(target=lambda i=i: wrong.extend(
        n for n in range(i, PAGES, 7) if get(pool, n) != content(n))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- who is let in --------------------------------------------------------------------------------


def test_an_access_list(make_arena, tmp_path, client, monkeypatch):
    needs()
    acl = tmp_path / "acl"
    acl.write_text("user default on nopass ~* &* +@all\n"
                   "user pages on >sesame ~tmem:* -@all +get +set +unlink +scan +ping +info +cluster|slots "
                   "+cluster|shards +cluster|nodes +command +client +hello +wait +select +readonly\n")
    with Servers(tmp_path, more=("--aclfile", str(acl))) as servers:
        for server in servers.all:
            server.ask("ACL", "SETUSER", "default", "off")      # the cluster is made
        secret = tmp_path / "secret"
        secret.write_text("pages:sesame\n")
        with pytest.raises(engine.TmemError, match="far: "):
            make(make_arena, servers.target(client=client))
        target = servers.target(client=client, auth=secret)
        secret.chmod(0o644)
        with pytest.raises(engine.TmemError, match="chmod 600"):
            make(make_arena, target)
        secret.chmod(0o600)
        pool = make(make_arena, target)
        fill(pool, PAGES)
        assert_all_there(pool)
        monkeypatch.setenv("TMEM_FAR_AUTH", "pages:sesame")
        other = make(make_arena, servers.target(client=client))
        fill(other, PAGES)
        assert_all_there(other)
        assert b"sesame" not in Path(f"/dev/shm/{pool.engine.name}").read_bytes()


def certificates(folder):
    """A certificate authority of ours, and a certificate by it for 127.0.0.1."""
    def run(*args):
        subprocess.run(["openssl", *args], check=True, cwd=folder, capture_output=True)
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=ours")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    run("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "node.pem",
        "-days", "2", "-extfile", "names")


def test_tls(make_arena, tmp_path, client):
    needs("redis")      # the server of the wheel is built without
    certificates(tmp_path)
    files = ("--tls-cert-file", str(tmp_path / "node.pem"), "--tls-key-file", str(tmp_path / "node.key"),
             "--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--tls-auth-clients", "yes")
    with Servers(tmp_path, 1, kind="redis", cluster=False, more=files) as servers:
        server = servers.all[0]
        secure, = free_ports(1)
        server.ask("CONFIG", "SET", "tls-port", secure)
        server.port = secure
        target = servers.target(client=client, ca=tmp_path / "ca.pem", cert=tmp_path / "node.pem",
                                key=tmp_path / "node.key").replace("valkey:", "rediss:")
        pool = make(make_arena, target)
        fill(pool, PAGES)
        assert_all_there(pool)
        with pytest.raises(engine.TmemError, match="far: "):
            make(make_arena, target.partition("?")[0] + f"?client={client}")
