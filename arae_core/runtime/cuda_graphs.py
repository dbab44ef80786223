"""CUDA graphs: on a GPU, each step of the algorithm is captured once and then replayed with one launch.

An iteration launches about a thousand small kernels, and launching them one by one takes several times as long as
running them. A graph records the kernels of a step and launches them again on tensors at the same addresses:

- the batch and the numbers that change (float arguments) are copied to the addresses of the captured ones;
- batches have few shapes (`data.device_dataset`), and each step has one graph for each shape;
- random numbers come from the state's generator, which a replay advances as a call does;
- the first time that a step meets a shape, it is called. The call is part of the training, and it allocates the moments
  of the optimizers and the workspaces of the libraries. The second time, the step is captured.
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
    """Return a runner that captures steps, or None if steps are called.

    They are called on a CPU, if `cuda_graphs` is off, and with several workers, whose steps wait for each other.
    """
    if state.device.type != "cuda" or parallel.world > 1 or state.settings.cuda_graphs == "off":
        return None
    return GraphRunner(state)


class Graph:
    """One step at one shape: its input tensors and, once it is captured, the graph and its output tensors."""

    def __init__(self, arguments: tuple[Any, ...], state: TrainingState) -> None:
        self.inputs = tuple(_place(argument, state) for argument in arguments)
        self.graph: Any = None
        self.scalars: Scalars = {}
        self.called = False

    def fill(self, arguments: tuple[Any, ...]) -> None:
        """Copy the arguments to the input tensors."""
        for place, argument in zip(self.inputs, arguments, strict=True):
            if isinstance(argument, float):
                place.fill_(argument)
            elif isinstance(argument, PaddedBatch | ImageBatch):
                for name, tensor in _tensors(argument).items():
                    getattr(place, name).copy_(tensor)


class GraphRunner:
    """Runs steps like `algorithm.run_eagerly`, from CUDA graphs. The next run of a step overwrites its scalars."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        # All graphs share one memory pool, in any order: none reads temporary results of another.
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(state.device)
        self.graphs: dict[Any, Graph] = {}
        self.failed = False

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Run steps on a separate stream. This stream and the caller's wait for each other."""
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
        """Capture the step. Return False if that fails; from then on, all steps are called."""
        captured = torch.cuda.CUDAGraph()
        captured.register_generator_state(self.state.draws)
        try:
            # Other threads, such as those of Ray and MLflow, may use the GPU at the same time.
            with torch.cuda.graph(captured, self.pool, self.stream, capture_error_mode="thread_local"):
                graph.scalars = step(self.state, parallel, *graph.inputs)
        except RuntimeError as error:
            self.failed = True
            self.graphs.clear()
            if not self.state.keeps_gradients:
                self.state.modules.zero_grad(
                    set_to_none=True
                )  # the capture has left gradients that were never computed
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"{step.__name__} cannot be captured as a CUDA graph ({reason}); training continues, slower. "
                "--cuda-graphs off skips the attempt",
                stacklevel=2,
            )
            return False
        graph.graph = captured
        return True


def graph_stream(run: StepRunner) -> Any:
    """Return the context in which a runner runs steps."""
    return run.on_stream() if isinstance(run, GraphRunner) else nullcontext()


def _tensors(batch: PaddedBatch | ImageBatch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def _key(argument: Any) -> Any:
    if isinstance(argument, PaddedBatch | ImageBatch):
        return tuple(tuple(tensor.shape) for tensor in _tensors(argument).values())
    assert isinstance(argument, float | int), "inputs of a captured step are batches and numbers"
    return "float" if isinstance(argument, float) else argument


def _place(argument: Any, state: TrainingState) -> Any:
    """Return the input tensors for an argument. Integers are fixed at the capture."""
    if isinstance(argument, float):
        return torch.full((), argument, device=state.device, dtype=state.dtype)
    if isinstance(argument, PaddedBatch | ImageBatch):
        tensors = _tensors(argument)
        return type(argument)(
            **{name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        )
    return argument
