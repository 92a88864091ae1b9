"""``dvc push`` and ``dvc pull`` over a shared folder and over SSH: weights arrive, what is about patients stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

SERVER = """
import asyncio, sys
import asyncssh

async def serve(home, trusted):
    factory = lambda channel: asyncssh.SFTPServer(channel, chroot=home.encode())
    key = asyncssh.generate_private_key('ssh-ed25519')
    server = await asyncssh.listen('127.0.0.1', 0, server_host_keys=[key], sftp_factory=factory,
                                   authorized_client_keys=trusted)
    print(server.get_port(), flush=True)
    await asyncio.Event().wait()

asyncio.run(serve(*sys.argv[1:]))
"""
STAGE = {
    "cmd": f"{Path(sys.executable).as_posix()} make.py",
    "outs": ["weights/align", {"predictions/qph.parquet": {"push": False}}],
}
MAKE = """
from pathlib import Path
for name, text in (('weights/align/model.safetensors', 'tensors'), ('predictions/qph.parquet', 'patients')):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
"""


def run(root: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A repository whose one stage has left weights and a table about patients, committed."""
    root = tmp_path / "hub"
    root.mkdir()
    (root / "make.py").write_text(MAKE)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"all": STAGE}}))
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    run(root, "dvc", "config", "core.analytics", "false")
    run(root, "dvc", "repro", "-q")
    run(root, "git", "add", "-A")
    run(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x")
    return root


@pytest.fixture(params=["folder", "ssh"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str, dict[str, str]]]:
    """Where files land, the address of the remote, and its settings."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    if request.param == "folder":
        yield shelf, str(shelf), {}
        return
    pytest.importorskip("dvc_ssh", reason="dvc-ssh is absent: pip install -e '.[ssh]'")
    asyncssh = pytest.importorskip("asyncssh")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(tmp_path / "id"))
    key.write_public_key(str(tmp_path / "id.pub"))
    command = [sys.executable, "-c", SERVER, str(shelf), str(tmp_path / "id.pub")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        try:
            yield shelf, f"ssh://site@127.0.0.1:{port}/cardionets", {"keyfile": str(tmp_path / "id")}
        finally:
            server.terminate()


@pytest.mark.soak
def test_weights_travel_and_patients_stay(hub: Path, remote: tuple[Path, str, dict[str, str]], tmp_path: Path) -> None:
    shelf, address, settings = remote
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(hub), str(clone))
    for root in (hub, clone):
        run(root, "dvc", "remote", "add", "--local", "-d", "hub", address)
        for name, value in settings.items():
            run(root, "dvc", "remote", "modify", "--local", "hub", name, value)
    run(hub, "dvc", "push", "-q")
    landed = [path.read_bytes() for path in shelf.rglob("*") if path.is_file()]
    assert any(b"tensors" in data for data in landed)
    assert not any(b"patients" in data for data in landed)
    run(clone, "dvc", "pull", "-q", "weights/align")
    assert (clone / "weights" / "align" / "model.safetensors").read_text() == "tensors"
    assert not (clone / "predictions" / "qph.parquet").exists()


def test_the_study_pushes_nothing_about_patients() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outs = [out for stage in stages.values() for out in stage.get("do", stage)["outs"]]
    about = [out for out in outs if "store/" in str(out) or "predictions/" in str(out)]
    assert len(about) >= 4
    assert all(isinstance(out, dict) and next(iter(out.values()))["push"] is False for out in about)
