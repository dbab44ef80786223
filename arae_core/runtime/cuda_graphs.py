"""Steps replayed: on a GPU, a step of the algorithm is captured as a CUDA graph and launched as a whole.

An iteration is some thousand small kernels, and launching them one by one takes several times as long as running them.
The same functions run here; the kernels that they launched are kept and launched again, on tensors in the same places:

- the batch is copied to where the captured one was, and so are numbers that change (float arguments);
- batches have few shapes (`data.device_dataset`); each step has a graph for each shape;
- random numbers come from the state's generator, which a graph advances as the calls would;
- the first time a step meets a shape it is called. The call counts as training, and makes what graphs need: moments of
  the optimizers, workspaces of the libraries. The second time, the step is captured.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from arae_core.algorithm import Scalars, StepRunner, run_eagerly
from arae_core.data.batches import ImageBatch, PaddedBatch
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState


def make_step_runner(state: TrainingState, parallel: Parallel) -> "GraphRunner | None":
    """Return a runner that captures steps, or None if they are called.

    They are called on a CPU, if the settings say so, and with several workers, whose steps wait for each other.
    """
    if state.device.type != "cuda" or parallel.world > 1 or state.settings.cuda_graphs == "off":
        return None
    return GraphRunner(state)


class Graph:
    """One step at one shape: the places of its inputs and, once it is captured, the graph and its results' places."""

    def __init__(self, arguments: tuple[Any, ...], state: TrainingState) -> None:
        self.inputs = tuple(_place(argument, state) for argument in arguments)
        self.graph: Any = None
        self.scalars: Scalars = {}
        self.called = False

    def fill(self, arguments: tuple[Any, ...]) -> None:
        """Copy the arguments to where the step reads them."""
        for place, argument in zip(self.inputs, arguments, strict=True):
            if isinstance(argument, float):
                place.fill_(argument)
            elif isinstance(argument, PaddedBatch | ImageBatch):
                for name, tensor in _tensors(argument).items():
                    getattr(place, name).copy_(tensor)


class GraphRunner:
    """Runs steps as `algorithm.run_eagerly` does, from CUDA graphs. The next run of a step overwrites its scalars."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        # Graphs share memory. None reads what another wrote, except for tensors that are kept: their order is free.
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(state.device)
        self.graphs: dict[Any, Graph] = {}
        self.failed = False

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Run steps on a stream of their own; it and the caller's stream wait for each other."""
        self.stream.wait_stream(torch.cuda.current_stream(self.state.device))
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.state.device).wait_stream(self.stream)

    def __call__(
        self, step: Callable[..., Scalars], state: TrainingState, parallel: Parallel, *arguments: Any
    ) -> Scalars:
        if self.failed:
            return run_eagerly(step, state, parallel, *arguments)
        key = (step.__name__, *(_key(argument) for argument in arguments))
        if key not in self.graphs:
            self.graphs[key] = Graph(arguments, state)
        graph = self.graphs[key]
        graph.fill(arguments)
        if not graph.called:
            graph.called = True
            return run_eagerly(step, state, parallel, *graph.inputs)
        if graph.graph is None and not self._capture(graph, step, parallel):
            return run_eagerly(step, state, parallel, *arguments)
        graph.graph.replay()
        return graph.scalars

    def _capture(self, graph: Graph, step: Callable[..., Scalars], parallel: Parallel) -> bool:
        """Capture the step; return True if that worked. If not, this and all other steps are called from now on."""
        captured = torch.cuda.CUDAGraph()
        captured.register_generator_state(self.state.draws)
        try:
            # Other threads, such as Ray's and MLflow's, may use the GPU meanwhile.
            with torch.cuda.graph(captured, self.pool, self.stream, capture_error_mode="thread_local"):
                graph.scalars = step(self.state, parallel, *graph.inputs)
        except RuntimeError as error:
            self.failed = True
            self.graphs.clear()
            if not self.state.keeps_gradients:
                self.state.modules.zero_grad(set_to_none=True)  # gradients left from the capture were never computed
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"{step.__name__} cannot be captured as a CUDA graph ({reason}): training continues without, slower. "
                "--cuda-graphs off skips the attempt",
                stacklevel=2,
            )
            return False
        graph.graph = captured
        return True


def graph_stream(run: StepRunner) -> Any:
    """The context in which a runner's steps run."""
    return run.on_stream() if isinstance(run, GraphRunner) else nullcontext()


def _tensors(batch: PaddedBatch | ImageBatch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def _key(argument: Any) -> Any:
    if isinstance(argument, PaddedBatch | ImageBatch):
        return tuple(tuple(tensor.shape) for tensor in _tensors(argument).values())
    assert isinstance(argument, float | int), "the inputs of a captured step are batches and numbers"
    return "float" if isinstance(argument, float) else argument


def _place(argument: Any, state: TrainingState) -> Any:
    """The place where a captured step reads the argument. Integers are fixed when it is captured."""
    if isinstance(argument, float):
        return torch.full((), argument, device=state.device, dtype=state.dtype)
    if isinstance(argument, PaddedBatch | ImageBatch):
        tensors = _tensors(argument)
        return type(argument)(
            **{name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        )
    return argument
