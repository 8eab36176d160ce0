"""What makes a clip's sections: a world played along a timeline with its memory, or a plan of a large model."""

from fractions import Fraction
from typing import Any

import numpy as np

from model.clips.latents import LatentFile
from model.clips.making import Making, Sections
from model.clips.request import ClipRequest, num_sections, rate_of, section_frames
from model.clips.timeline import Timeline
from model.world_model import WorldModel

from .clip_past import Past
from .session import expected_poses, next_histories
from .world import Opening, World

CAPACITY = 4096  # latents that the memory holds, as in live play


class CausalMaker:
    """Implements `Maker` from past to future: the same world line that a player would have, held to a timeline."""

    def __init__(self, model: WorldModel, request: ClipRequest, *, timeline: Timeline, past: Past) -> None:
        self._request, self._timeline, self._spec = request, timeline, model.spec
        self.order: list[Sections] = [(i,) for i in range(num_sections(request, model.spec))]
        self._world = World(model, opening_of(request, past), first_frame=0, capacity=CAPACITY)
        self._world.session.recalls = request.recall
        for section in past.sections:
            self._world.session.commit(section)
            self._world.remember()

    def restore(self, made: LatentFile) -> None:
        for section in made:
            self._world.session.commit(section)
            self._world.remember()
        if made:
            self._world.prompt = self._prompt(len(made) - 1)
        if self._world.session.num_sections:
            self._world.revive()

    def make(self, number: int) -> Making:
        world, frames = self._world, section_frames(self._spec)
        if number and number in self._request.revive:
            world.revive()
        if (prompt := self._prompt(number)) != world.prompt:
            world.set_prompt(prompt)
        axes = tuple(axis.name for axis in self._spec.controls.axes)
        span = range(number * frames, (number + 1) * frames)
        controls = self._timeline.controls(span, axes=axes, rate=rate_of(self._spec))
        histories = next_histories([world.session], [expected_poses(world.model, world.state, controls)])
        [job] = world.model.begin([world.state], [controls], histories)
        while job.steps_left:
            world.model.advance([job])
            yield
        [section] = world.model.finish([job])
        world.session.commit(section)
        world.remember()
        return [section]

    def _prompt(self, section: int) -> str:
        """The prompt at the middle of a section."""
        frames = section_frames(self._spec)
        middle = Fraction(section * frames + frames // 2) / rate_of(self._spec)
        return self._timeline.prompt(middle, otherwise=self._request.prompt)


def opening_of(request: ClipRequest, past: Past) -> Opening:
    return Opening(past.image, request.prompt, request.seed)


def state_after(model: WorldModel, request: ClipRequest, past: Past) -> Any:
    """A state of the model that has just shown `past`."""
    state = model.open(image=past.image, prompt=request.prompt, seed=request.seed)
    if past.sections:
        parts = [state.start, *past.sections]
        latents = np.concatenate([part.latents for part in parts])
        poses = np.concatenate([part.poses for part in parts])
        model.resume(state, latents, poses, num_sections=len(past.sections))
    return state
