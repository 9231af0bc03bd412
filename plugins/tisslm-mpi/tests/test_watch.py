"""What the watch of a rank does, with messages that come when the test wants."""

from __future__ import annotations

import threading

from tisslm_mpi.watch import _LEAVE, Watch


class Messages:
    """The post of rank 0 of two: the other rank wants to end, and says so at a bad moment."""

    rank = 0

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.sent: list[int] = []
        self.asked_to_end = threading.Event()

    def receive(self):
        if not self.asked_to_end.is_set():
            threading.Thread(target=self.watch.leave).start()
            while self.watch._leaving is None:  # which the watch did not see when it began to look
                pass
            self.asked_to_end.set()
            yield 1, _LEAVE, b""

    def send_all(self, kind: int, data: bytes = b"") -> None:
        self.sent.append(kind)

    def is_sent(self) -> bool:
        return True


def test_a_rank_that_is_to_end_tells_the_others_before_it_does():
    watch = Watch(60.0)
    post = Messages(watch)
    watch.start(post, ["rank 0 on a", "rank 1 on b"], lambda code: None, lambda: None)
    watch._thread.join(60)
    assert not watch._thread.is_alive()
    assert post.sent == [_LEAVE]
