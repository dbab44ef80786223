"""Models to evaluate, each with the data that it was trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.experiment.settings import Experiment, experiment_of

if TYPE_CHECKING:
    from arae_core.data.batches import TokenStore
    from arae_core.model import Model
    from pipelines.corpora.corpus import Corpus


@dataclass(frozen=True)
class Subject:
    """A trained model of sentences. `name` is how it was asked for, `run_id` the MLflow run that trained it."""

    name: str
    model: "Model"
    checkpoint: Path
    experiment: Experiment
    corpus: "Corpus"
    run_id: str

    def store(self, split: str) -> "TokenStore":
        """The sentences of train, validation or test."""
        from arae_core.data.batches import TokenStore

        store = self.corpus.store(split)
        assert isinstance(store, TokenStore)
        return store


def load_subject(name: str, tracking_uri: str, storage: Path) -> Subject:
    """The model that `name` means, with its data: as prepared in `storage`, or prepared there again.

    Raises ValueError for what cannot be found, a model of images, and data that are not what they were.
    """
    from arae_core.model import Model
    from arae_core.training.checkpoint import read_about
    from pipelines.corpora.corpus import Corpus, prepare
    from pipelines.tracking.registry import resolve

    folder = resolve(name, tracking_uri)
    about = read_about(folder)
    if not about:
        raise ValueError(
            f"--model {name}: it does not say on which data it was trained; train it with train.py or tune.py"
        )
    experiment = experiment_of(about["experiment"])
    if experiment.kind != "text":
        raise ValueError(f"--model {name}: these evaluations are of sentences, this model is one of images")
    prepared = storage / "data" / about["data_fingerprint"]
    corpus = Corpus.load(prepared) if (prepared / "corpus.json").is_file() else prepare(experiment, storage)
    if corpus.fingerprint != about["data_fingerprint"]:
        raise ValueError(
            f"--model {name}: {experiment.data.source} no longer holds what it was trained on; --storage names the "
            "folder where that was prepared"
        )
    return Subject(name, Model.load(folder), folder, experiment, corpus, str(about["run_id"]))
