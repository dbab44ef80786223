"""The core needs only torch, numpy, tokenizers and safetensors; imports point down the layers."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS: dict[str, set[str]] = {"arae_core": set(), "tune_spaces": set(), "pipelines": {"arae_core", "tune_spaces"}}
"""Package -> our other packages that it may import."""
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
"""Folders of pipelines/. Each may import those before it; the commands may import all."""
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


def test_the_core_runs_without_other_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["trained", "[2,", "4]"]


def test_settings_import_no_torch() -> None:
    program = "import sys, arae_core.settings; print(sorted({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def modules(path: Path) -> set[str]:
    """Dotted names of all imports of a file, inside functions too. Relative imports are refused."""
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
    """Top-level names of all imports of a file."""
    return {name.partition(".")[0] for name in modules(path)}


def violations(path: Path) -> list[str]:
    """Imports of a file that its layer does not allow."""
    package, folder, *_ = path.relative_to(ROOT).parts
    names = imported(path)
    libraries = names - OURS - set(sys.stdlib_module_names)
    allowed = {"arae_core": CORE_LIBRARIES, "tune_spaces": set()}.get(package, libraries)
    wrong = ((names & OURS) - LAYERS[package] - {package}) | (libraries - allowed)
    if package == "pipelines" and folder in INNER:
        used = {name.split(".")[1] for name in modules(path) if name.startswith("pipelines.")}
        wrong |= used - set(INNER[: INNER.index(folder) + 1])
    return [f"{path.relative_to(ROOT)} must not import {name}" for name in sorted(wrong)]


def test_imports_point_down_the_layers() -> None:
    assert len(MODULES) > 100 and {path.relative_to(ROOT).parts[0] for path in MODULES} == set(LAYERS)
    folders = {path.parent.name for path in (ROOT / "pipelines").glob("*/*.py")}
    assert folders == set(INNER), "every folder of pipelines/ is a layer"
    assert [each for path in MODULES for each in violations(path)] == []


def test_no_file_reads_a_pickle_or_hides_a_library() -> None:
    """A script's folder is first on the path: pipelines/datasets.py would be imported instead of the library."""
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path
        assert "torch.load(" not in text and "allow_pickle=True" not in text, path
        assert path.parent.name != "pipelines" or path.stem not in CORE_LIBRARIES | {"datasets", "ray", "mlflow"}, path
