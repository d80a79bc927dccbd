"""Work that is recorded once and done again, over memory that stays where it is.

``CudaGraphs`` is the real thing, as thin as it can be, because only a GPU can try it. ``Reruns``
stands in for it where there is none: what is wrong with a function that is to be captured, but for
the capture itself, shows there too.
"""

from collections.abc import Callable
from typing import Protocol

import torch

_WARM_UPS = 3


class Graphs(Protocol):
    """Where functions are captured."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Something that does the work of ``function`` when it is called.

        The function is run a few times first, so these must do no harm; the capture itself
        does nothing that lasts. What it reads and writes has to be in memory that stays.
        """
        ...


class CudaGraphs:
    """CUDA graphs of one device, captured on one stream of their own.

    They share a pool of memory: what one needs for a moment the others use too, as no two run at
    once. Nothing of that may be read after a replay.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                # Kernels are compiled and libraries find their workspaces, on this very stream.
                for _ in range(_WARM_UPS):
                    function()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                # Other threads may go on using the device.
                capture_error_mode="thread_local",
            ):
                function()
        return graph.replay


class Reruns:
    """Instead of graphs: a replay runs the function once more, over the same memory."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        function()
        return function
