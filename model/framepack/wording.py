"""A session's prompt over time: a new one fades in over sections."""

from dataclasses import dataclass, replace

Mix = tuple[tuple[str, float], ...]  # prompts with their shares, which add up to 1


@dataclass(frozen=True, slots=True)
class Wording:
    """The prompt, and the one before it while that fades out."""

    prompt: str
    before: str = ""
    shares: int = 1  # of the new prompt in the next section, out of `fade`
    fade: int = 1  # sections until the new prompt is alone; 1 is at once

    def change(self, prompt: str, *, fade: int) -> "Wording":
        """Say something else from the next section on."""
        return self if prompt == self.prompt else Wording(prompt, self.prompt, 1, fade)

    def next(self) -> "Wording":
        """After a section."""
        return replace(self, shares=min(self.shares + 1, self.fade))

    def settled(self) -> "Wording":
        return Wording(self.prompt)

    @property
    def mix(self) -> Mix:
        if self.shares == self.fade:
            return ((self.prompt, 1.0),)
        share = self.shares / self.fade
        return (self.before, 1.0 - share), (self.prompt, share)
