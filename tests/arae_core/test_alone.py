"""The core runs on torch, numpy, tokenizers and safetensors alone, and imports point down the layers only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS: dict[str, set[str]] = {"arae_core": set(), "tune_spaces": set(), "pipelines": {"arae_core", "tune_spaces"}}
"""What each package may import of ours besides itself."""
OURS = {*LAYERS, "benchmarks", "cluster", "tests"}
INNER = (
    "experiment",
    "corpora",
    "tracking",
    "evaluation",
    "runtime",
    "training",
    "sweeps",
    "classification",
    "reporting",
    "cli",
)
"""Folders of pipelines/: each may import those before it, the commands all of them."""
CORE_LIBRARIES = {"torch", "numpy", "tokenizers", "safetensors"}
MODULES = [path for package in LAYERS for path in sorted((ROOT / package).rglob("*.py"))]

PROGRAM = """
import sys
absent = "ray mlflow datasets pandas pyarrow matplotlib scipy sklearn pipelines tune_spaces benchmarks".split()
sys.modules.update(dict.fromkeys(absent))  # importing one of these raises ModuleNotFoundError
from pathlib import Path
from arae_core.data.batches import TokenStore, load_store
from arae_core.training.checkpoint import export_model, save_checkpoint
from arae_core.settings import CodeSettings, CriticSettings, DecoderSettings, EncoderSettings
from arae_core.settings import GeneratorSettings, Settings
from arae_core.evaluation import count_language_model, generation, images
from arae_core.model import Model
from arae_core.training.loop import TrainingState, train
from arae_core.data.vocabulary import Vocabulary

folder = Path(sys.argv[1])
text = ["a cat runs", "the dog sleeps", "the old cat sleeps .", "a dog runs ."]
settings = Settings(batch_size=2, encoder=EncoderSettings(embedding=3, hidden=(5,)),
    decoder=DecoderSettings(embedding=3, hidden=(5,)),
    code=CodeSettings(size=7), generator=GeneratorSettings(noise_size=3, hidden=(5,)),
    critic=CriticSettings(steps=2, hidden=(5,)))
vocabulary = Vocabulary.train(text, settings.vocabulary)
TokenStore.from_rows(vocabulary.encode(text)).save(folder / "data")
state = TrainingState.new(settings, vocabulary.spec)
reports = list(train(state, load_store(folder / "data"), until=4, every=2))
save_checkpoint(folder / "checkpoint", state, vocabulary)
export_model(folder / "checkpoint", folder / "model")
model = Model.load(folder / "model")
assert model.generate(3, seed=1, temperature=1.0) == Model(state, vocabulary).generate(3, seed=1, temperature=1.0)
assert len(model.interpolate(text[0], text[1], 3)) == 3
print("trained", [report.step for report in reports])
"""


def test_the_core_trains_saves_loads_and_samples_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["trained", "[2,", "4]"]


def test_settings_import_no_torch() -> None:
    program = "import sys, arae_core.settings; print(sorted({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def modules(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, inside functions too; relative imports are refused."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            names |= {ast.literal_eval(a) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    return {name.partition(".")[0] for name in modules(path)}


def test_there_is_something_to_walk() -> None:
    assert len(MODULES) > 20
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_the_layers(path: Path) -> None:
    package, names = path.relative_to(ROOT).parts[0], imported(path)
    up = (names & OURS) - LAYERS[package] - {package}
    assert not up, f"{package} must not import {up}"
    libraries = names - OURS - set(sys.stdlib_module_names)
    if package == "arae_core":
        assert libraries <= CORE_LIBRARIES
    if package == "tune_spaces":
        assert not libraries


def test_every_folder_of_the_pipelines_has_its_place() -> None:
    assert {path.name for path in (ROOT / "pipelines").iterdir() if any(path.glob("*.py"))} == set(INNER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_within_the_pipelines(path: Path) -> None:
    package, folder, *_ = path.relative_to(ROOT).parts
    if package == "pipelines" and folder in INNER:
        used = {name.split(".")[1] for name in modules(path) if name.startswith("pipelines.")}
        up = used - set(INNER[: INNER.index(folder) + 1])
        assert not up, f"pipelines/{folder} must not import {up}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_hides_a_library(path: Path) -> None:
    """A script's own folder is first on the path: a datasets.py beside it would be imported for the library."""
    if path.relative_to(ROOT).parts[0] == "pipelines":
        assert path.stem not in {"datasets", "ray", "mlflow", "tokenizers", "torch", "numpy"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_is_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib"}
    assert "torch.load(" not in text and "allow_pickle=True" not in text
