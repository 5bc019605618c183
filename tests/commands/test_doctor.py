from __future__ import annotations

import json
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from zhihui import progress
from zhihui.commands import doctor

DECLARED = [
    "base-package>=1",
    'with-version<3,>=2; extra == "eval"',
    'mined; extra == "mine"',
    'mined; extra == "eval"',
    'mined; extra == "all"',
    'other-system; extra == "mine" and sys_platform == "plan9"',
]
INSTALLED = {"base-package": "1.0", "with-version": "1.9", "mined": "0.1"}


@pytest.fixture(autouse=True)
def installation(monkeypatch):
    """An installation of our own making: what is declared, what is installed, and imports of the standard library."""
    real = metadata.version

    def version(name: str) -> str:
        if name in INSTALLED:
            return INSTALLED[name]
        if name in {"other-system"}:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    class Declared:
        def get_all(self, key: str) -> list[str]:
            assert key == "Provides-Extra"
            return ["all", "dev", "eval", "mine"]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: DECLARED)
    monkeypatch.setattr(metadata, "metadata", lambda name: Declared())
    monkeypatch.setattr(
        metadata,
        "packages_distributions",
        lambda: {"json": ["Base.Package"], "_csv": ["mined"], "csv": ["mined"], "base_package_no": ["x"]},
    )
    yield
    progress.quiet(False)


def test_a_report_for_people(zhihui, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    done = zhihui("doctor")
    assert done.status == 0, done.out
    lines = done.out.splitlines()
    assert any(line.startswith("python 3.") for line in lines)
    assert any(line.startswith("torch ") for line in lines)
    assert "extra mine: installed" in lines
    assert "extra eval: not installed (with-version<3,>=2 (installed: 1.9)): pip install 'zhihui[eval]'" in lines
    assert "HF_HUB_OFFLINE: 1" in lines
    assert "HF_ENDPOINT: not set" in lines
    assert any(line.startswith("hub cache: /") for line in lines)
    assert "OK: import base (json)" in lines
    assert "OK: import mine (csv)" in lines
    assert not any("import eval" in line for line in lines)
    assert any(line.startswith("OK: multiply in fp32 (cpu") for line in lines)
    assert any(line.startswith("OK: multiply in bf16 (cpu") for line in lines)


def test_a_report_for_machines(zhihui):
    done = zhihui("doctor", "--json")
    assert done.status == 0
    report = json.loads(done.out)
    assert report["versions"]["zhihui"]
    assert list(report["extras"]) == ["eval", "mine"]
    assert report["machine"]["cpu_cores"] >= 1
    assert report["machine"]["memory"] > 2**20
    assert report["machine"]["disk_free"] > 0
    assert all(gpu["memory"] > 0 for gpu in report["gpus"])
    assert [check["ok"] for check in report["checks"]] == [True] * 4


def test_an_absent_package_of_the_base_install_fails(zhihui, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["other-system"])
    done = zhihui("doctor")
    assert done.status == 1
    assert "failed: import base (ImportError: missing: other-system; pip install zhihui)" in done.out
    assert "OK: multiply in fp32" in done.out, "one failure does not end the report"


def test_an_extra_that_cannot_be_imported_fails(zhihui, monkeypatch):
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"json": ["base-package"]})
    done = zhihui("doctor", "--json")
    assert done.status == 1
    (failed,) = (check for check in json.loads(done.out)["checks"] if not check["ok"])
    assert failed == {
        "name": "import mine",
        "ok": False,
        "detail": "ModuleNotFoundError: No module named 'mined'",
    }


def test_a_wrong_product_fails(zhihui, monkeypatch):
    import torch

    real = torch.Tensor.__matmul__

    def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        product = real(left, right)
        return product.roll(1, dims=0) if left.dtype == torch.bfloat16 else product

    monkeypatch.setattr(torch.Tensor, "__matmul__", matmul)
    done = zhihui("doctor")
    assert done.status == 1
    assert "OK: multiply in fp32" in done.out
    assert "failed: multiply in bf16 (ArithmeticError: on cpu a product is off by" in done.out


def test_the_memory_limit_of_a_container_counts(monkeypatch, tmp_path):
    whole = doctor._machine()["memory"]
    for content, expected in (("1000000\n", 1000000), ("max\n", whole), (f"{2**63}\n", whole)):
        (tmp_path / "memory.max").write_text(content)
        monkeypatch.setattr(doctor, "_MEMORY_LIMIT", tmp_path / "memory.max")
        assert doctor._machine()["memory"] == min(expected, whole)


@pytest.mark.parametrize(("name", "module"), [("mined", "csv"), ("base-package", "json"), ("unknown", "unknown")])
def test_the_module_of_a_package(name, module):
    assert doctor._module(Requirement(name).name) == module
