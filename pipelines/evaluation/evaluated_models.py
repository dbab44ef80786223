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
class EvaluatedModel:
    """A trained model of sentences. `name` is the value of --model, `run_id` the MLflow run that trained it."""

    name: str
    model: "Model"
    checkpoint: Path
    experiment: Experiment
    corpus: "Corpus"
    run_id: str

    def store(self, split: str) -> "TokenStore":
        """Return the sentences of train, validation or test."""
        from arae_core.data.batches import TokenStore

        store = self.corpus.store(split)
        assert isinstance(store, TokenStore)
        return store


def load_evaluated_model(name: str, tracking_uri: str, storage: Path) -> EvaluatedModel:
    """Load a model and its prepared data; prepare the data again if `storage` does not have them.

    Raise ValueError for a model that does not exist, a model of images, and data that have changed since training.
    """
    from arae_core.model import Model
    from arae_core.training.checkpoint import read_about
    from pipelines.corpora.corpus import Corpus, prepare
    from pipelines.tracking.registry import resolve

    folder = resolve(name, tracking_uri)
    about = read_about(folder)
    if not about:
        raise ValueError(
            f"--model {name}: the checkpoint does not record its training data; train it with train.py or tune.py"
        )
    experiment = experiment_of(about["experiment"])
    if experiment.kind != "text":
        raise ValueError(f"--model {name} is a model of images; these evaluations need a model of sentences")
    fingerprint = about["data_fingerprint"]
    prepared = storage / "data" / fingerprint
    corpus = Corpus.load(prepared) if (prepared / "corpus.json").is_file() else prepare(experiment, storage)
    if corpus.fingerprint != fingerprint:
        raise ValueError(
            f"--model {name}: {experiment.data.source} has changed since training; point --storage at the folder with "
            "the data prepared then"
        )
    return EvaluatedModel(name, Model.load(folder), folder, experiment, corpus, str(about["run_id"]))
