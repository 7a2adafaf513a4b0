"""What can go wrong with a small model. Every error carries the code that the wire shows."""


class ActorError(Exception):
    """Base of all errors of a small model or its host."""

    code = "actor_error"


class UnknownSlm(ActorError):
    """No settings block has this name."""

    code = "unknown_slm"


class SlmDisabled(ActorError):
    """The settings switch this small model off."""

    code = "slm_disabled"


class SlmTimeout(ActorError):
    """No answer within the deadline; the host may still be working."""

    code = "slm_timeout"


class SlmUnavailable(ActorError):
    """The host is dead, restarting or shut down. Its text is logged: it never quotes what was said."""

    code = "slm_unavailable"


class SlmOverloaded(ActorError):
    """The host's queue is full."""

    code = "slm_overloaded"


class RequestRejected(ActorError):
    """The small model cannot handle this request, now or later."""

    code = "request_rejected"


class SlmFailed(ActorError):
    """The small model raised while it handled this request. Its text is logged: it never quotes what was said."""

    code = "slm_failed"


class GenerationError(ActorError):
    """A language model gave no answer that can be used."""

    code = "generation_failed"


class GenerationTimeout(GenerationError):
    """It did not finish in its share of the deadline."""

    code = "generation_timeout"


class GenerationInvalid(GenerationError):
    """Its answer cannot be read, even repaired, or says what nobody said."""

    code = "generation_invalid"


class GeneratorUnavailable(GenerationError):
    """What runs it does not work or does not answer."""

    code = "generator_unavailable"


class TurnTooLong(GenerationError):
    """The turn is longer than the version gives its language model to read."""

    code = "turn_too_long"


class TurnUnfinished(GenerationError):
    """The turn goes on: words come faster than a language model answers."""

    code = "turn_unfinished"


class ModelLoadError(ActorError):
    """A version's files cannot be used by its small model."""

    code = "model_load_failed"


class StartTimeout(ActorError):
    """A host did not load its model in time."""

    code = "start_timeout"


class RuntimeLost(ActorError):
    """What the hosts run on has ended: only a new daemon can serve."""

    code = "runtime_lost"


class RayFailed(ActorError):
    """Ray cannot be started or joined."""

    code = "ray_failed"
