"""Run in a copy of the repository to which the examples of docs/extending.md have been added."""

import math
import multiprocessing
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

import arae_core as arae
from arae_core.data.batches import make_batch
from arae_core.objectives import OBJECTIVES
from arae_core.runtime.parallel import Parallel
from arae_core.settings.declaration import without_effect

SENTENCES = [f"{a} {n} {v} ." for a in ("a", "the") for n in ("man", "dog", "cat") for v in ("runs", "sleeps", "eats")]
LABELS = [int("man" in sentence) for sentence in SENTENCES]
SMALL = {
    "batch_size": 8,
    "longest": 4,
    "precision": "float64",
    "encoder.embedding": 5,
    "encoder.hidden": (11,),
    "decoder.embedding": 3,
    "decoder.hidden": (13,),
    "code.size": 7,
    "generator.noise_size": 5,
    "generator.hidden": (11,),
    "critic.hidden": (7,),
    "critic.steps": 2,
}
VOCABULARY = arae.Vocabulary.train(SENTENCES, arae.VocabularySettings())
STORE = arae.TokenStore.from_rows(VOCABULARY.encode(SENTENCES), LABELS)
COMBINATIONS: list[dict[str, Any]] = [
    {"critic.objective": "energy"},
    {"critic.objective": "energy", "encoder.updates": "summed", "prior.kind": "gaussian"},
    {"critic.objective": "none", "prior.kind": "kernel"},
    {"prior.kind": "kernel"},
    {"code.kind": "cube", "generator.output": "tanh"},
    {"encoder.kind": "gru"},
    {"decoder.kind": "gru", "decoder.contrast": 0.5, "decoder.alignment_weight": 0.1},
    {
        "encoder.kind": "gru",
        "decoder.kind": "gru",
        "code.kind": "cube",
        "prior.kind": "kernel",
        "critic.objective": "energy",
    },
]


def trained(changes: dict[str, Any], until: int, parallel: Parallel | None = None) -> arae.TrainingState:
    spec = replace(VOCABULARY.spec, classes=("other", "man"))
    state = arae.TrainingState.new(arae.with_settings(arae.Settings(), SMALL | changes), spec)
    for report in arae.train(state, STORE, parallel, until=until, every=5):
        assert all(math.isfinite(value) for value in report.scalars.values()), (changes, report)
    return state


def test_every_combination_trains_saves_and_writes(folder: Path) -> None:
    for changes in COMBINATIONS:
        state = trained(changes, 10)
        model = arae.Model(state, VOCABULARY)
        written = model.generate(20, seed=3)
        assert len(written) == 20 and len(model.transfer(SENTENCES[:3], "man")) == 3
        assert len(model.interpolate(SENTENCES[0], SENTENCES[-1], steps=5)) == 5
        model.save(folder / "model")
        loaded, vocabulary, _ = arae.load_checkpoint(folder / "model")
        assert arae.Model(loaded, vocabulary).generate(20, seed=3) == written, changes
        for _ in arae.train(loaded, STORE, until=15, every=5):
            pass
        again = trained(changes, 15).modules.state_dict()
        assert all(torch.equal(loaded.modules.state_dict()[n], value) for n, value in again.items()), changes


def test_energy_distance_equals_its_definition() -> None:
    objective = OBJECTIVES["energy"].load()(arae.Settings())
    real, fake = torch.randn(7, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    between = sum(float((a - b).norm()) for a in real for b in fake) / 35
    within = [sum(float((a - b).norm()) for a in x for b in x) / (len(x) * (len(x) - 1)) for x in (real, fake)]
    assert math.isclose(float(objective.encoder_loss(None, real, fake)), 2 * between - sum(within), rel_tol=1e-9)


def test_kernel_prior_fits_a_finished_model() -> None:
    state = trained({}, 5)
    other = arae.replace_prior(state, STORE, "kernel")
    codes = other.encode_mixed(make_batch(STORE, np.arange(len(STORE)), state.spec, state.device))
    drawn = arae.Model(other, VOCABULARY).sample_codes(20_000)
    assert np.abs(drawn.mean(0) - codes.mean(0).numpy()).max() < 0.05


def test_names_and_settings_follow_from_the_entries() -> None:
    settings = arae.with_settings(arae.Settings(), {"critic.objective": "energy"})
    why = without_effect(settings)
    assert {"critic.steps", "critic.penalty"} <= set(why) and "generator.learning_rate" not in why
    assert settings.chosen("prior.kind")[0] == "generator" and not settings.has_critic
    for name, value, known in (("critic.objective", "energies", "energy"), ("code.kind", "ball", "cube")):
        with pytest.raises(ValueError, match=f"{name} must be one of .*{known}"):
            arae.with_settings(arae.Settings(), {name: value})


def rank(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    for i, changes in enumerate(COMBINATIONS):
        state = trained(changes, 5, Parallel.from_process_group())
        torch.save(state.modules.state_dict(), f"{folder}/{i} {number}.pt")
    dist.destroy_process_group()


def test_two_workers_compute_what_one_computes(folder: Path) -> None:
    start_processes(rank, (str(folder),), nprocs=2, start_method="forkserver")
    for i, changes in enumerate(COMBINATIONS):
        alone = trained(changes, 5).modules.state_dict()
        for number in range(2):
            together = torch.load(folder / f"{i} {number}.pt", weights_only=True)
            for name, value in alone.items():
                assert torch.allclose(value.double(), together[name].double(), rtol=0, atol=1e-9), (changes, name)


if __name__ == "__main__":
    assert Path(arae.__file__).is_relative_to(Path.cwd()), "this must run in the copy"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.set_forkserver_preload(["torch._dynamo", "arae_core.training.loop"])
    with tempfile.TemporaryDirectory() as scratch:
        test_names_and_settings_follow_from_the_entries()
        test_energy_distance_equals_its_definition()
        test_kernel_prior_fits_a_finished_model()
        test_every_combination_trains_saves_and_writes(Path(scratch))
        test_two_workers_compute_what_one_computes(Path(scratch))
    sys.exit(0)
