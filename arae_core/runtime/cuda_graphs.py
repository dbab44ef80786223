"""Steps played back: on a GPU, a step of the algorithm captured as a CUDA graph and launched as a whole.

An iteration is some thousand small kernels, and launching them one by one takes several times as long as running them.
Here the same functions run; what they launched is kept and launched again, on tensors that lie where they lay:

- the batch is copied to where the captured one was, and so are numbers that change (float arguments);
- shapes are few (`resident`), with a graph for each step and shape;
- random numbers come from the state's generator, which a graph moves on as the calls would;
- the first time a step meets a shape it is simply called, which counts as training and makes what graphs need (moments
  of the optimizers, the libraries' workspaces); the second time it is captured.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from arae_core.algorithm import Perform, Scalars, at_once
from arae_core.data.batches import ImageBatch, PaddedBatch
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState


def performer(state: TrainingState, parallel: Parallel) -> "Captured | None":
    """What captures the steps of this run, or None where they are called: on a CPU, where the settings say so, and of
    several workers, whose steps wait for each other."""
    if state.device.type != "cuda" or parallel.world > 1 or state.settings.cuda_graphs == "off":
        return None
    return Captured(state)


class Graph:
    """One step at one shape: its inputs' places and, once captured, what plays it back and its results' places."""

    def __init__(self, arguments: tuple[Any, ...], state: TrainingState) -> None:
        self.inputs = tuple(_place(argument, state) for argument in arguments)
        self.graph: Any = None
        self.scalars: Scalars = {}
        self.called = False

    def fill(self, arguments: tuple[Any, ...]) -> None:
        """Copy what has changed to where the step reads it."""
        for place, argument in zip(self.inputs, arguments, strict=True):
            if isinstance(argument, float):
                place.fill_(argument)
            elif isinstance(argument, PaddedBatch | ImageBatch):
                for name, tensor in _tensors(argument).items():
                    getattr(place, name).copy_(tensor)


class Captured:
    """Performs steps as `algorithm.at_once` does, from CUDA graphs. A step's scalars are overwritten by its next."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        # graphs share memory: none reads what another wrote but tensors that are kept, so their order does not matter
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(state.device)
        self.graphs: dict[Any, Graph] = {}
        self.failed = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Steps are performed in here: on a stream of their own, which the caller's waits for and is waited for by."""
        self.stream.wait_stream(torch.cuda.current_stream(self.state.device))
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.state.device).wait_stream(self.stream)

    def __call__(
        self, step: Callable[..., Scalars], state: TrainingState, parallel: Parallel, *arguments: Any
    ) -> Scalars:
        if self.failed:
            return at_once(step, state, parallel, *arguments)
        key = (step.__name__, *(_key(argument) for argument in arguments))
        if key not in self.graphs:
            self.graphs[key] = Graph(arguments, state)
        graph = self.graphs[key]
        graph.fill(arguments)
        if not graph.called:
            graph.called = True
            return at_once(step, state, parallel, *graph.inputs)
        if graph.graph is None and not self._capture(graph, step, parallel):
            return at_once(step, state, parallel, *arguments)
        graph.graph.replay()
        return graph.scalars

    def _capture(self, graph: Graph, step: Callable[..., Scalars], parallel: Parallel) -> bool:
        """Whether the step could be captured. Where it could not, this and all others are called from now on."""
        captured = torch.cuda.CUDAGraph()
        captured.register_generator_state(self.state.draws)
        try:
            # other threads may use the GPU meanwhile, as Ray's and MLflow's do
            with torch.cuda.graph(captured, self.pool, self.stream, capture_error_mode="thread_local"):
                graph.scalars = step(self.state, parallel, *graph.inputs)
        except RuntimeError as error:
            self.failed = True
            self.graphs.clear()
            if not self.state.keeps_gradients:
                self.state.modules.zero_grad(set_to_none=True)  # those left were never computed
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"{step.__name__} cannot be captured as a CUDA graph ({reason}): training goes on without, slower. "
                "--cuda-graphs off does not try",
                stacklevel=2,
            )
            return False
        graph.graph = captured
        return True


def working(perform: Perform) -> Any:
    """The context in which steps are performed."""
    return perform.working() if isinstance(perform, Captured) else nullcontext()


def _tensors(batch: PaddedBatch | ImageBatch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def _key(argument: Any) -> Any:
    if isinstance(argument, PaddedBatch | ImageBatch):
        return tuple(tuple(tensor.shape) for tensor in _tensors(argument).values())
    assert isinstance(argument, float | int), "a step is captured with what it works on: batches and numbers"
    return "float" if isinstance(argument, float) else argument


def _place(argument: Any, state: TrainingState) -> Any:
    """Where a captured step reads the argument. An integer is part of the step's form, and stays."""
    if isinstance(argument, float):
        return torch.full((), argument, device=state.device, dtype=state.dtype)
    if isinstance(argument, PaddedBatch | ImageBatch):
        tensors = _tensors(argument)
        return type(argument)(
            **{name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        )
    return argument
