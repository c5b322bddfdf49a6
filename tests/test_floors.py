"""The floors of ARCHITECTURE.md, read from the imports, and the sizes a reader can take in."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median, quantiles

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "saccade"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    (
        "errors",
        "device",
        "values",
        "words",
        "settings",
        "events",
        "files",
        "interrupts",
        "downloads",
        "run",
        "shapes",
        "ledger",
        "palette",
        "strengths",
        "native",
    ),
    ("data", "augment", "metrics", "nn", "optim", "graph"),
    ("features", "train"),
    ("classifiers",),
    ("audit", "study"),
    ("report", "export"),
    ("recipe",),
    ("cli", "web"),
    ("__init__", "__main__"),
)
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}
ORDERED = (3, 4)
"""Floors on which a folder may import from the folders named before it."""

LAZY = ("cli", "__init__", "__main__")
"""Where saccade itself may be imported inside a function, so that the command line answers at once."""


def unit(file: Path) -> str:
    """Return the folder or file directly under saccade/ that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def resolve(module: str) -> Path | None:
    """Return the file of a module of saccade; None where it is another package's."""
    path = SOURCE / Path(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file in FILES), None)


def imported(node: ast.AST) -> Iterator[Path]:
    """Yield the files of saccade that an import statement names."""
    if isinstance(node, ast.Import):
        yield from filter(None, (resolve(alias.name) for alias in node.names))
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            found = resolve(f"{node.module}.{alias.name}") or resolve(node.module)
            if found:
                yield found


def imports(file: Path) -> set[Path]:
    return {target for node in ast.walk(parse(file)) for target in imported(node)}


def allowed(importer: str, target: str) -> bool:
    above, below = FLOOR_OF[importer], FLOOR_OF[target]
    if above == below and above in ORDERED:
        return FLOORS[above].index(target) <= FLOORS[above].index(importer)
    return below < above or importer == target or above == below == 0


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(parse(file)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines without its docstring's."""
    documented = ast.get_docstring(function, clean=False)
    return (function.end_lineno or 0) - function.lineno + 1 - (len(documented.splitlines()) if documented else 0)


def where(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def test_every_file_has_a_floor() -> None:
    assert [where(file) for file in FILES if unit(file) not in FLOOR_OF] == []


def test_imports_only_go_down() -> None:
    upwards = [
        f"{where(file)} imports {where(target)}"
        for file in FILES
        for target in sorted(imports(file))
        if not allowed(unit(file), unit(target))
    ]
    assert upwards == []


def test_a_folder_never_imports_its_own_front_door() -> None:
    doors = [
        where(file)
        for file in FILES
        if file.name != "__init__.py" and file.parent != PACKAGE and file.parent / "__init__.py" in imports(file)
    ]
    assert doors == []


def test_no_import_circles() -> None:
    try:
        TopologicalSorter({file: imports(file) - {file} for file in FILES}).prepare()
    except CycleError as error:
        pytest.fail("circle: " + " → ".join(where(file) for file in error.args[1]))


def test_no_import_of_saccade_inside_a_function() -> None:
    hidden = {
        f"{where(file)}: {function.name}"
        for file in FILES
        if unit(file) not in LAZY
        for function in functions(file)
        for node in ast.walk(function)
        if any(imported(node))
    }
    assert hidden == set()


def test_init_files_only_re_export() -> None:
    def re_exports(node: ast.stmt) -> bool:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        return docstring or names or isinstance(node, ast.Import | ast.ImportFrom)

    others = [
        f"{where(file)}: {ast.unparse(node).splitlines()[0]}"
        for file in FILES
        if file.name == "__init__.py" and file.parent != PACKAGE
        for node in parse(file).body
        if not re_exports(node)
    ]
    assert others == []


def test_files_fit_the_eye() -> None:
    sizes = {where(file): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: size for name, size in sizes.items() if size > 400} == {}
    assert median(sizes.values()) <= 150


def test_functions_fit_the_eye() -> None:
    sizes = {f"{where(file)}: {f.name}": lines(f) for file in FILES for f in functions(file)}
    assert {name: size for name, size in sizes.items() if size > 60} == {}
    assert quantiles(sizes.values(), n=10)[-1] <= 30


def test_functions_take_few_parameters() -> None:
    counts = {
        f"{where(file)}: {f.name}": len(
            [a for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs) if a.arg not in ("self", "cls")]
        )
        for file in FILES
        for f in functions(file)
    }
    assert {name: count for name, count in counts.items() if count > 7} == {}


def test_classes_have_few_methods() -> None:
    counts = {
        f"{where(file)}: {node.name}": sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in node.body)
        for file in FILES
        for node in ast.walk(parse(file))
        if isinstance(node, ast.ClassDef)
    }
    assert {name: count for name, count in counts.items() if count > 15} == {}


@pytest.mark.parametrize("module", ["saccade", "saccade.settings", "saccade.data", "saccade.cli"])
def test_importing_stays_light(module: str) -> None:
    heavy = "{'torch', 'torchvision', 'timm', 'sklearn', 'matplotlib', 'numba'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
