"""Plans come from the settings alone."""

from config.settings import SlmSettings, load_settings
from daemon.routing import Step, make_plan


def slm(*after: str, events: tuple[str, ...] = ("text",), enabled: bool = True) -> SlmSettings:
    return SlmSettings(implementation="actors.x:X", model="x", events=events, after=after, enabled=enabled)  # type: ignore[arg-type]


def test_the_shipped_settings_run_the_extractor_beside_encoder_and_classifier() -> None:
    plan = make_plan("text", load_settings().settings.slm)

    after = {step.slm: step.after for step in plan.steps}
    assert after == {"encoder": (), "extractor": (), "classifier": ("encoder",)}
    assert [step.slm for step in plan.steps].index("encoder") < [step.slm for step in plan.steps].index("classifier")


def test_only_the_models_of_the_event_are_planned() -> None:
    plan = make_plan("audio", {"asr": slm(events=("audio",)), "extractor": slm()})

    assert plan.steps == (Step("asr", (), 0.5),)


def test_the_shipped_settings_let_the_extractor_alone_look_at_turns_that_go_on() -> None:
    assert [step.slm for step in make_plan("partial", load_settings().settings.slm).steps] == ["extractor"]


def test_what_is_switched_off_is_named() -> None:
    plan = make_plan("text", {"a": slm(enabled=False), "b": slm("a")})

    assert plan.disabled == ("a",)
    assert [step.slm for step in plan.steps] == ["b"]
