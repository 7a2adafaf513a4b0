"""`shoal --set KEY=VALUE`: text, nesting and lists."""

import pytest

from config.settings import SettingsError, load_settings, parse_overrides


def test_keys_nest_and_pydantic_finds_the_type() -> None:
    settings = load_settings(overrides=parse_overrides(["turn.deadline_s=0.5", "turn.context_turns=2"])).settings

    assert (settings.turn.deadline_s, settings.turn.context_turns) == (0.5, 2)


def test_a_value_may_hold_equal_signs() -> None:
    assert parse_overrides(["graph.password=a=b"]) == {"graph": {"password": "a=b"}}


def test_a_list_is_json() -> None:
    settings = load_settings(overrides=parse_overrides(['slm.extractor.after=["encoder"]'])).settings

    assert settings.slm["extractor"].after == ("encoder",)


@pytest.mark.parametrize("wrong", ["turn.deadline_s", "slm.extractor.after=[encoder]", "log.level.deep=info"])
def test_what_cannot_be_read_is_told(wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong.split("=")[0]):
        parse_overrides(["log.level=info", wrong])
