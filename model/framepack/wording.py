"""A session's prompt over time: a new one fades in over sections."""

from dataclasses import dataclass, replace

Mix = tuple[tuple[str, float], ...]  # prompts with their shares, which add up to 1


@dataclass(frozen=True, slots=True)
class Wording:
    """The prompt of the next section, and the one before it while that fades out."""

    prompt: str
    before: str | None = None  # None if none was shown
    shown: int = 0  # sections of the prompt so far
    fade: int = 1  # sections until it is alone; 1 is at once

    def change(self, prompt: str, *, fade: int) -> "Wording":
        """Say something else from the next section on."""
        if prompt == self.prompt:
            return self
        last = self.prompt if self.shown else self.before
        return Wording(prompt, None if last == prompt else last, fade=fade)

    def after(self, made: "Wording") -> "Wording":
        """When a section was made that began with `made`; the prompt may have been changed since."""
        if self.prompt == made.prompt:
            return replace(made, shown=made.shown + 1)
        return Wording(self.prompt, made.prompt, fade=self.fade)

    def settled(self) -> "Wording":
        """Without anything before it."""
        return Wording(self.prompt)

    @property
    def mix(self) -> Mix:
        share = (self.shown + 1) / self.fade
        if self.before is None or share >= 1:
            return ((self.prompt, 1.0),)
        return (self.before, 1.0 - share), (self.prompt, share)
