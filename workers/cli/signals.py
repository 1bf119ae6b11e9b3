"""A stop that signals ask for, and that no second signal can wedge.

Called by every command that runs until it is told to end. ``threading.Event.set`` takes a lock, and a handler runs in
the middle of whatever the main thread does: a handler that sets the event hangs the process for good when a second
signal (a supervisor's SIGTERM beside the kernel's) comes while the first is being handled, or while the main thread
enters a wait. So the handler only puts into a queue made for that, and a thread of its own sets the event.
"""

import queue
import signal
import threading


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets. Call it from the main thread."""
    stop = threading.Event()
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()

    def forward() -> None:
        asked.get()
        stop.set()

    threading.Thread(target=forward, name="stop-on-signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.put(received))
    return stop
