"""The house as docs/architecture.md draws it: who includes whom, who imports what, public names.

Read from the sources; needs no build but for the comparison of plan fields.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "cabochon"

# Folder: the folders it may include besides itself.
MAY_INCLUDE = {
    "base": set(),
    "weights": {"base"},
    "ops": {"base", "weights"},
    "cpu": {"base", "weights", "ops"},
    "model": {"base", "weights", "ops"},
    "engine": {"base", "weights", "ops", "model"},
    "bindings": {"base", "weights", "ops", "model", "engine"},
}
EXCEPTIONS = {
    "engine/devices.cc": {"cpu"},
    "bindings/bind_testing.cc": {"cpu"},
    "bindings/bind_testing_speed.cc": {"cpu"},
    "bindings/module.cc": {"cpu"},
}
TIERS = {
    "scalar": {"cmath", "cstring"},
    **{tier: {"immintrin.h"} for tier in ("avx2", "avx512", "avx512bf16")},
}

# Who imports the extension, and who imports which outside package.
CORE_IMPORTERS = {"loading", "packed_cache", "planner", "ops", "scheduler/loop"}
IMPORTERS = {
    "tqdm": {"display"},
    "tokenizers": {"tokenizer"},
    "jinja2": {"chat/sandbox", "evaluation/page"},
    "matplotlib": {"evaluation/plots"},
    "pandas": {"evaluation/exports"},
    "llguidance": {"chat/constraints"},
    "huggingface_hub": {"hub"},
    "jsonschema_rs": {"chat/schemas"},
    "docstring_parser": {"chat/docstrings"},
    "pydantic": {"chat/schemas"},
    "safetensors": {"chat/saved"},
}
# "Public names of cabochon", as far as they exist; the others of that list are to come.
PUBLIC = {
    *("load", "plan", "evaluate", "doctor", "Model", "Chat", "Prompt", "Result", "Event", "Plan"),
    *("Report", "types", "ops", "errors", "adapters"),
}


def sources(folder: Path, *suffixes: str) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix in suffixes)
    assert found, f"no sources under {folder}"
    return found


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include [<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def test_every_include_follows_an_arrow_of_the_house():
    wrong = []
    for path in sources(CSRC, ".h", ".cc"):
        name = path.relative_to(CSRC).as_posix()
        folder = name.split("/")[0]
        allowed = MAY_INCLUDE[folder] | {folder} | EXCEPTIONS.get(name, set())
        for include in includes(path):
            target = include.split("/")[0]
            if target in MAY_INCLUDE and target not in allowed:
                wrong.append(f"{name} includes {include}")

    assert not wrong


def test_a_tier_includes_the_contract_its_own_folder_and_intrinsics_alone():
    wrong = []
    for tier, extra in TIERS.items():
        for path in sources(CSRC / "cpu" / tier, ".h", ".cc"):
            for include in includes(path):
                is_own = include.startswith(f"cpu/{tier}/") or include == "cpu/kernels.h"
                if not is_own and include not in extra | {"cstddef", "cstdint"}:
                    wrong.append(f"{path.relative_to(CSRC)} includes {include}")

    assert not wrong


def test_only_bindings_know_python():
    for path in sources(CSRC, ".h", ".cc"):
        if path.relative_to(CSRC).parts[0] != "bindings":
            assert not any(i.startswith("pybind11") or i == "Python.h" for i in includes(path)), (
                path
            )


def test_the_core_never_prints_aborts_or_exits():
    banned = re.compile(r"\b(printf|puts|std::cout|std::cerr|abort|_?exit|std::terminate)\s*[(<]")
    for path in sources(CSRC, ".h", ".cc"):
        code = re.sub(r"//.*", "", path.read_text())
        assert not banned.search(code), path


def modules() -> dict[str, ast.Module]:
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in sources(PACKAGE, ".py")
    }


def imported(tree: ast.Module) -> set[str]:
    """Top-level packages, and `_core` for the extension however it is spelled.

    Imports for annotations alone are left out: they do not happen.
    """
    found = set()
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {"_core"} & ({a.name for a in node.names} | {node.module or ""})
            if node.level == 0:
                found.add((node.module or "").split(".")[0])
    return found


def test_the_extension_is_imported_by_its_few_users_alone():
    users = {name for name, tree in modules().items() if "_core" in imported(tree)}

    assert users == CORE_IMPORTERS


@pytest.mark.parametrize("package", IMPORTERS)
def test_an_outside_package_has_its_one_importer(package):
    users = {name for name, tree in modules().items() if package in imported(tree)}

    assert users <= IMPORTERS[package]


def test_nothing_imports_torch_or_transformers():
    for name, tree in modules().items():
        assert not imported(tree) & {"torch", "transformers"}, name


def test_public_names_are_those_of_the_interface():
    import cabochon

    assert set(cabochon.__all__) <= PUBLIC
    public = {name for name in vars(cabochon) if not name.startswith("_")}
    # Submodules show up as attributes once they are imported: they are no public names.
    submodules = {path.stem for path in PACKAGE.iterdir()} | {"annotations", "importlib"}
    assert public - submodules - {"TYPE_CHECKING", "Any"} <= PUBLIC


def test_every_environment_variable_is_documented_and_they_are_at_most_five():
    documented = set(
        re.findall(r"`(CABOCHON_\w+)`", (ROOT / "docs" / "environment.md").read_text())
    )
    used = set()
    for path in sources(PACKAGE, ".py") + sources(CSRC, ".cc", ".h"):
        used |= set(re.findall(r'"(CABOCHON_[A-Z_]+)"', path.read_text()))

    assert used == documented
    assert len(used) <= 5


def test_plan_fields_are_the_same_in_python_and_cpp():
    from cabochon import _core
    from cabochon.config import LayerPlan, ModelPlan

    assert tuple(f.name for f in dataclasses.fields(LayerPlan)) == _core.LAYER_PLAN_FIELDS
    assert {f.name for f in dataclasses.fields(ModelPlan)} == set(_core.MODEL_PLAN_FIELDS)


def test_the_stub_of_the_extension_names_what_is_there():
    from cabochon import _core

    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    names = set()
    for node in stub.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    there = {name for name in vars(_core) if not name.startswith("_")} | {"__version__"}

    assert names | {"testing"} == there
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            methods = {m.name for m in node.body if isinstance(m, ast.FunctionDef)}
            fields = {f.target.id for f in node.body if isinstance(f, ast.AnnAssign)}
            for name in methods | fields:
                assert hasattr(getattr(_core, node.name), name), f"{node.name}.{name}"


def test_no_text_of_the_project_names_a_machine_or_a_folder_outside_it():
    allowed = {"tests"}
    for folder in ("csrc", "python", "docs", "benchmarks", "notebooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".md", ".cc", ".h", ".ipynb", ".pyi"} and path.is_file():
                text = path.read_text()
                assert folder in allowed or "../shared" not in text, path
                assert not any(f"/{home}/" in text for home in ("root", "work")), path
