"""Where a genuine Neo4j comes from: one that is named, jars from Maven Central, or a container."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import neo4j
import platformdirs

from daemon.memory.graph import Target

HERE = Path(__file__).parent
IMAGE = "neo4j:5.26-community"
START_TIMEOUT_S = 90.0

CONFIGURATION = """\
server.bolt.enabled=true
server.bolt.listen_address=127.0.0.1:{port}
dbms.security.auth_enabled=true
dbms.usage_report.enabled=false
server.memory.pagecache.size=64m
db.tx_log.preallocate=false
"""


class Absent(Exception):
    """No genuine Neo4j can be had here; the text says what was tried."""


def find() -> str:
    """ "named", "jars" or "container"; the first run downloads the jars.

    Raises:
        Absent: none of them is possible.
    """
    if os.environ.get("SHOAL_TEST_NEO4J_URI"):
        return "named"
    tried = []
    if shutil.which("mvn") and shutil.which("javac"):
        try:
            _jars()
        except (subprocess.SubprocessError, OSError) as error:
            tried.append(f"Maven could not fetch its jars ({error})")
        else:
            return "jars"
    else:
        tried.append("no Maven and JDK on the path")
    if _container_engine():
        return "container"
    tried.append("no container engine answers")
    raise Absent("SHOAL_TEST_NEO4J_URI is not set, " + ", ".join(tried))


@contextmanager
def serve(source: str, home: Path) -> Iterator[Target]:
    """Run a server, where it is ours to run, until the block ends."""
    if source == "named":
        user = os.environ.get("SHOAL_TEST_NEO4J_USERNAME", "neo4j")
        yield Target(os.environ["SHOAL_TEST_NEO4J_URI"], user, os.environ.get("SHOAL_TEST_NEO4J_PASSWORD", ""))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    target = Target(f"bolt://127.0.0.1:{port}", "neo4j", secrets.token_urlsafe(16))
    with (_java if source == "jars" else _container)(port, target, home):
        yield target


@contextmanager
def _java(port: int, target: Target, home: Path) -> Iterator[None]:
    home.mkdir(parents=True)
    (home / "neo4j.conf").write_text(CONFIGURATION.format(port=port))
    command = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1"]
    for package in ("java.nio", "java.lang"):
        command += ["--add-opens", f"java.base/{package}=ALL-UNNAMED"]
    command += ["-cp", f"{_jars()}/*", str(HERE / "Launcher.java"), str(home)]
    with (home / "output.log").open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=home)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() != b"ready":
            raise RuntimeError(f"Neo4j did not start: {line!r}; {(home / 'output.log').read_text()[-2000:]}")
        with neo4j.GraphDatabase.driver(target.uri, auth=("neo4j", "neo4j"), telemetry_disabled=True) as driver:
            driver.execute_query(
                "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password",
                {"password": target.password},
                database_="system",
            )
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _container(port: int, target: Target, home: Path) -> Iterator[None]:
    engine = _container_engine()
    assert engine is not None
    name = f"shoal-test-{secrets.token_hex(6)}"
    command = [engine, "run", "--detach", "--rm", "--name", name, "--publish", f"127.0.0.1:{port}:7687"]
    for variable in (f"NEO4J_AUTH=neo4j/{target.password}", "NEO4J_dbms_usage__report_enabled=false"):
        command += ["--env", variable]
    subprocess.run([*command, IMAGE], check=True, capture_output=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        with neo4j.GraphDatabase.driver(target.uri, auth=("neo4j", target.password), telemetry_disabled=True) as driver:
            while True:
                try:
                    driver.verify_connectivity()
                    break
                except neo4j.exceptions.DriverError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        yield
    finally:
        subprocess.run([engine, "rm", "--force", name], check=False, capture_output=True)


def _container_engine() -> str | None:
    for engine in ("docker", "podman"):
        if shutil.which(engine):
            answer = subprocess.run([engine, "info"], capture_output=True, timeout=20, check=False)
            if answer.returncode == 0:
                return engine
    return None


def _jars() -> Path:
    """The folder of jars, fetched once per version of the pom."""
    pom = HERE / "pom.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    jars = platformdirs.user_cache_path("shoal-tests", appauthor=False) / f"neo4j-{digest}"
    if not jars.exists():
        fetched = jars.with_name(f"{jars.name}.{os.getpid()}")
        shutil.rmtree(fetched, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        subprocess.run([*command, f"-DoutputDirectory={fetched}"], check=True, capture_output=True, timeout=900)
        fetched.rename(jars)
    return jars
