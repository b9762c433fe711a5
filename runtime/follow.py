"""Video that follows the weather: looks at the frames, decides on a composition, and switches to it without a stall.

A look gives similarities (see `router`). What was decided stays until several looks in a row all disagree with it
(hysteresis), so that a doubtful picture does not make the mix chatter; then their mean decides, which holds nothing of
what was before. A scene cut starts afresh. The engine of a new composition is made in the background, and what is
nearest to it serves meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.arguments import is_count, is_number
from uir.runtime.backends import Engine
from uir.runtime.cuts import CutDetector
from uir.runtime.decision import CLEAN, CLEAN_NAME, Decision
from uir.runtime.errors import BackendError, FrameError, UsageError
from uir.runtime.framing import check_frame
from uir.runtime.manifest import Precision
from uir.runtime.pipeline import Work
from uir.runtime.restorer import Restorer

log = logging.getLogger(__name__)

Frame = NDArray[np.uint8]
USUALLY, LONGEST = 3, 0.1
"""Frames, and seconds, from one look to the next where nothing is said: what comes first."""
LONGEST_WAIT = 0.2
"""Seconds that a frame waits for an engine at most, where there is so much time from one to the next."""


class Sight(Protocol):
    """What looks and weighs: a `Router`."""

    def look(self, frame: Frame) -> dict[str, float]: ...

    def weigh(self, similarities: Mapping[str, float]) -> Decision: ...


@dataclass(frozen=True)
class FollowOptions:
    """How a stream is followed.

    Attributes:
        every: frames from one look to the next; None for each third, and more where frames are few in a second.
        confirm: looks in a row that must disagree with what was decided before they are believed.
        margin: how much less similar a look must be to what was decided, and more to what was not, to disagree.
        band: how much a weight must differ, in all these looks, where the adapters are the same.
        fade: seconds in which a change blends over; frames cost twice as much meanwhile.

    Raises:
        UsageError: one of them is no such number.
    """

    every: int | None = None
    confirm: int = 3
    margin: float = 0.05
    band: float = 0.25
    fade: float = 0.0

    def __post_init__(self) -> None:
        counts = {"confirm": self.confirm} | ({} if self.every is None else {"every": self.every})
        for name, value in counts.items():
            if not is_count(value):
                raise UsageError(f"{name}: a whole number of frames, 1 or more; {value!r} was given")
        for name in ("margin", "band", "fade"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0):
                raise UsageError(f"{name}: a finite number, 0 or more; {value!r} was given")


@dataclass(frozen=True)
class Moment:
    """What was done with one frame.

    Attributes:
        seconds: the frame's time.
        similarities: what this frame's look gave, None where it was not looked at.
        cut: a scene began with it.
        wanted: the decision.
        served: what was done, which is another where the wanted engine is not there yet.
        precision: of the engine; None where none ran.
    """

    seconds: float
    similarities: dict[str, float] | None
    cut: bool
    wanted: Decision
    served: Decision
    precision: Precision | None


class Follower:
    """Restores the frames of one stream, in order, with the composition that each time needs.

    Example:
        >>> restorer = Restorer("restore.uir")
        >>> follower = Follower(restorer, Router(restorer.package))
        >>> restored = follower(frame, seconds)

    A clean picture passes through untouched. Not to be shared by threads; each stream has its own.

    Args:
        restorer: what restores; its composition is changed.
        router: what looks and weighs.
        options: how quickly to follow.
        told: called with what was done, after each frame.
        still: the stream is one picture.

    Attributes:
        seconds_looking: how long looking and deciding have taken.

    Raises:
        UsageError: an argument is none of these.
    """

    def __init__(
        self,
        restorer: Restorer,
        router: Sight,
        options: FollowOptions = FollowOptions(),
        told: Callable[[Moment], object] = lambda _: None,
        *,
        still: bool = False,
    ) -> None:
        if not isinstance(restorer, Restorer):
            raise UsageError(f"a Follower takes a Restorer first, and this is {type(restorer).__name__}")
        if not (callable(getattr(router, "look", None)) and callable(getattr(router, "weigh", None))):
            raise UsageError(f"a Follower takes a Router second, and this is {type(router).__name__}")
        if not isinstance(options, FollowOptions):
            raise UsageError(f"a Follower's options are FollowOptions, and these are {type(options).__name__}")
        self._restorer, self._router, self._options, self._told = restorer, router, options, told
        self._still = still
        self._cuts = CutDetector()
        self.seconds_looking = 0.0
        self._frames = 0
        self._time = self._took = self._waited = 0.0  # the last frame's time, how long deciding took, and waiting of it
        self._restoring = 0.0  # how long its restoration took
        self._looked: tuple[int, float] | None = None  # the number and the time of the frame last looked at
        self._looks: deque[dict[str, float]] = deque(maxlen=options.confirm)
        self._wanted = self._served = CLEAN
        self._used: dict[Decision, None] = {}  # the last one last, so that looking for them leaves them in this order
        self._coming: tuple[Decision, Future[Engine]] | None = None
        self._faded: tuple[Decision, float] | None = None  # what is blended from, and since when
        self._given_up: set[Decision] = set()

    def __call__(self, frame: Frame, seconds: float) -> Frame:
        """Restore the next frame.

        Args:
            frame: H x W x 3 uint8 RGB.
            seconds: its time.

        Returns:
            An array of the same shape; the very frame where it passes through.

        Raises:
            FrameError: it is no such frame.
            UsageError: the time is no finite number.
            BackendError: the engine fails.
        """
        return self.decide(frame, seconds).run()

    def decide(self, frame: Frame, seconds: float) -> Work[Frame]:
        """The same in two steps: decide by the next frame, and leave its restoration to whoever runs the work.

        The works of several frames may be run at once, in any order.
        """
        began = time.perf_counter()
        check_frame(frame)
        if frame.ndim != 3:
            raise FrameError("a stream gives one frame at a time, H x W x 3 RGB; this is a batch")
        if not is_number(seconds):
            raise UsageError(f"a frame's time is a finite number of seconds, and this is {seconds!r}")
        cut = self._cuts(frame)
        similarities = None
        if cut or self._is_time(seconds):
            similarities = self._router.look(frame)
            self._decide(similarities, afresh=cut or self._frames == 0)
            self._looked = self._frames, seconds
        self.seconds_looking += time.perf_counter() - began
        first, self._frames = self._frames == 0, self._frames + 1
        if first:
            self._restorer.expect(*frame.shape[:2], still=self._still)
            self._restorer.prepare_instant()
        if cut:  # nothing is blended over it: the pictures on its two sides have nothing in common
            self._faded = None
        self._serve(seconds, first=first, fade=not (first or cut))
        precision = None if self._served == CLEAN else self._restorer.precision
        self._told(Moment(seconds, similarities, cut, self._wanted, self._served, precision))
        self._time, self._took, self._waited = seconds, time.perf_counter() - began - self._waited, 0.0
        return Work(self._restoration(frame, seconds))

    @property
    def label(self) -> str:
        """What the last frame was restored with, for people."""
        return self._served.key

    def _is_time(self, seconds: float) -> bool:
        """Whether to look at this frame."""
        if self._looked is None:
            return True
        number, before = self._looked
        if self._options.every is not None:
            return self._frames - number >= self._options.every
        # A frame's time is rounded in some containers.
        return self._frames - number >= USUALLY or seconds - before >= LONGEST - 1e-3

    def _decide(self, similarities: dict[str, float], *, afresh: bool) -> None:
        """Take a look into account."""
        if afresh:
            self._looks.clear()
            self._wanted = self._router.weigh(similarities)
        self._looks.append(similarities)
        if len(self._looks) == self._options.confirm and all(map(self._disagrees, self._looks)):
            mean = {name: fmean(look[name] for look in self._looks) for name in similarities}
            self._wanted = self._router.weigh(mean)

    def _disagrees(self, look: dict[str, float]) -> bool:
        """Whether a look asks for something else, even with a margin in favour of what is wanted."""
        kept = self._wanted.weights or (CLEAN_NAME,)
        margin = self._options.margin
        leaning = {name: value + (margin if name in kept else -margin) for name, value in look.items()}
        return _other(self._router.weigh(leaning), self._wanted, self._options.band)

    def _serve(self, seconds: float, *, first: bool, fade: bool) -> None:
        """Come as near to the wanted composition as can be had without waiting, unless there is no choice."""
        if self._served == self._wanted:
            return
        if self._wanted in self._given_up:
            self._switch(self._nearest(), seconds, fade=fade)
            return
        if self._wanted == CLEAN or first or self._restorer.ready(self._wanted):
            self._switch(self._wanted, seconds, fade=fade)
            return
        if self._coming is None or self._coming[0] != self._wanted or self._coming[1].cancelled():
            self._coming = self._wanted, self._restorer.prepare(self._wanted)
            self._switch(self._nearest(), seconds, fade=fade)
        self._wait(self._coming[1], seconds)
        if self._coming[1].done() and not self._coming[1].cancelled():
            error = self._coming[1].exception()
            if error is None:
                self._switch(self._wanted, seconds, fade=fade)
            elif isinstance(error, BackendError):
                self._given_up.add(self._wanted)
                log.warning("%s cannot be used, %s goes on: %s", self._wanted.key, self._served.key, error)
            else:
                raise error

    def _wait(self, coming: Future[Engine], seconds: float) -> None:
        """Wait for an engine as long as the stream is ahead of its own time, within one frame of it.

        Where frames come faster than they are shown, as from a file, few of them then pass without what they need.
        """
        began = time.perf_counter()
        wait([coming], max(0.0, min(seconds - self._time, LONGEST_WAIT) - self._took - self._restoring))
        self._waited = time.perf_counter() - began

    def _nearest(self) -> Decision:
        """Of what is ready, and of what serves now, the decision nearest to the wanted one."""
        self._used = {each: None for each in self._used if self._restorer.ready(each)}  # the others were given up
        return min((self._served, *self._used), key=lambda each: _distance(each, self._wanted))

    def _switch(self, decision: Decision, seconds: float, *, fade: bool) -> None:
        if decision == self._served:
            return
        if decision != CLEAN:
            self._restorer.compose(decision)
            self._used.pop(decision, None)
            self._used[decision] = None
        self._faded = (self._served, seconds) if fade and self._options.fade else None
        self._served = decision

    def _restoration(self, frame: Frame, seconds: float) -> Callable[[], Frame]:
        """What restores a frame by what is decided now, whatever is decided until it runs."""
        served, before = self._served, None
        if self._faded is not None:
            share = (seconds - self._faded[1]) / self._options.fade
            if 0 <= share < 1:
                before = self._faded[0]
            else:
                self._faded = None

        def restore() -> Frame:
            began = time.perf_counter()
            restored = self._with(served, frame)
            if before is not None:
                blended = cv2.addWeighted(self._with(before, frame), 1 - share, restored, share, 0)
                restored = np.asarray(blended, np.uint8)
            self._restoring = (time.perf_counter() - began) / self._restorer.at_once
            return restored

        return restore

    def _with(self, decision: Decision, frame: Frame) -> Frame:
        return frame if decision == CLEAN else self._restorer(frame, decision)


def _other(one: Decision, another: Decision, band: float) -> bool:
    """Whether two decisions have other adapters, or weights that differ by more than the band."""
    if one.weights.keys() != another.weights.keys():
        return True
    return any(abs(weight - another.weights[name]) > band for name, weight in one.weights.items())


def _distance(one: Decision, another: Decision) -> float:
    """The sum of the weights' differences."""
    first, second = one.weights, another.weights
    return sum(abs(first.get(name, 0) - second.get(name, 0)) for name in first.keys() | second.keys())
