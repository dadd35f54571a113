"""What the tests need of other programs is found, or named in one line."""

from __future__ import annotations

import pytest

from tests import flink, prism


def test_what_flink_needs_is_said_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(flink.JAR, raising=False)
    monkeypatch.setattr(flink, "CACHE", tmp_path)
    assert flink.main() == 1
    assert capsys.readouterr().out == (
        "make flink needs Java (Debian: apt install default-jre-headless) and the jar of Beam's "
        "job server for Flink (name it in MMLAB_FLINK_JAR, or run a job with FlinkRunner() once "
        "where Beam can download it).\n"
    )


def test_a_job_server_is_found_by_its_name_or_in_beams_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(flink.JAR, raising=False)
    monkeypatch.setattr(flink, "CACHE", tmp_path)
    (jar := tmp_path / "beam-runners-flink-1.20-job-server-2.77.0.jar").touch()
    assert flink.job_server() == jar
    (own := tmp_path / "own.jar").touch()
    monkeypatch.setenv(flink.JAR, str(own))
    assert flink.job_server() == own


@pytest.fixture
def no_prism(monkeypatch, tmp_path):
    monkeypatch.setattr(prism, "OURS", tmp_path / "ours")
    monkeypatch.setattr(prism, "BEAMS", tmp_path / "beams")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(prism.ELSEWHERE, raising=False)
    return tmp_path


def test_a_prism_of_another_version_is_none(no_prism, monkeypatch):
    assert prism.found() is None
    program = no_prism / "prism"
    program.write_bytes(f"mod\t{prism.MODULE}\tv2.1.0\t".encode())
    monkeypatch.setenv(prism.ELSEWHERE, str(program))
    assert prism.found() is None
    newer = no_prism / "newer"
    newer.write_bytes(f"mod\t{prism.MODULE}\t{prism.VERSION}\th1:".encode())
    monkeypatch.setenv(prism.ELSEWHERE, str(newer))
    assert prism.found() == newer
    assert prism.VERSION in prism.missing()


def test_what_failed_while_prism_was_installed_is_said(no_prism, monkeypatch, capsys):
    def refuses():
        raise OSError("no route")

    monkeypatch.setattr(prism, "_ways", lambda: iter([("built with Go", refuses)]))
    assert prism.install() is None
    assert capsys.readouterr().out == (
        f"Prism {prism.VERSION}: built with Go …\n  failed: no route\n"
    )
