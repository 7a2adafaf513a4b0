"""What may stand for what: the word lists of `training/data/swaps.yaml`, and names from the package faker."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

SWAPS = Path(__file__).parent.parent / "data" / "swaps.yaml"
LOCALES = (
    "az_AZ cs_CZ da_DK de_AT de_DE en_GB en_IE en_IN en_KE en_NG en_NZ en_US es_AR es_CL es_CO es_ES es_MX et_EE fi_FI "
    "fr_BE fr_CA fr_DZ fr_FR ga_IE ha_NG hr_HR hu_HU id_ID ig_NG is_IS it_IT ja_JP ko_KR lv_LV nl_BE nl_NL no_NO pl_PL "
    "pt_BR pt_PT ro_RO sk_SK sl_SI sv_SE sw tr_TR tw_GH uz_UZ vi_VN yo_NG zu_ZA"
).split()
_CITIES = (
    "cs_CZ da_DK de_AT de_DE en_IN fi_FI hr_HR id_ID it_IT nl_BE nl_NL pl_PL pt_PT ro_RO sk_SK sl_SI sv_SE".split()
)


def _items(words: str) -> list[str]:
    return [word.strip() for word in words.split(",")]


_Words = BeforeValidator(_items)


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    words: Annotated[tuple[str, ...], _Words]
    main_use: frozenset[str] = frozenset()


class _People(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    titles: Annotated[frozenset[str], _Words]
    kin: Annotated[frozenset[str], _Words]
    women: Annotated[frozenset[str], _Words]
    men: Annotated[frozenset[str], _Words]


class Swaps(BaseModel):
    """`swaps.yaml`, as it describes itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    people: _People
    places: _Listed
    firms: _Listed
    lists: Mapping[str, _Listed]


@dataclass(frozen=True, slots=True)
class PeopleNames:
    """Names of one country: those that only women have, those that only men have, and family names."""

    women: tuple[str, ...]
    men: tuple[str, ...]
    family: tuple[str, ...]


@cache
def load_swaps(path: Path = SWAPS) -> Swaps:
    """Read the lists."""
    return Swaps.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@cache
def people_names() -> tuple[PeopleNames, ...]:
    """Names by country, each list sorted; only those in Latin script, of one word."""
    return tuple(names for locale in LOCALES if (names := _people_of(locale)).women and names.men)


@cache
def city_names() -> tuple[str, ...]:
    """Names of real cities that faker knows, a few hundred of each country at most."""
    found: set[str] = set()
    for locale in _CITIES:
        provider = import_module(f"faker.providers.address.{locale}").Provider
        cities = sorted(set(_latin(_strings(provider, "cities", "city_names"), most_words=2)))
        found.update(cities[:: max(1, len(cities) // 200)])
    return tuple(sorted(found))


def _people_of(locale: str) -> PeopleNames:
    provider = import_module(f"faker.providers.person.{locale}").Provider
    women = set(_latin(_strings(provider, "first_names_female", "first_romanized_names_female")))
    men = set(_latin(_strings(provider, "first_names_male", "first_romanized_names_male")))
    family = set(_latin(_strings(provider, "last_names", "last_romanized_names"))) - {"Doe"}
    return PeopleNames(tuple(sorted(women - men)), tuple(sorted(men - women)), tuple(sorted(family)))


def _strings(provider: object, *attributes: str) -> Iterable[str]:
    """The strings of the first of a provider's lists that it has of its own script."""
    for attribute in attributes:
        for item in getattr(provider, attribute, ()):
            if isinstance(item, str):
                yield item
            elif isinstance(item, Sequence) and item and isinstance(item[0], str):
                yield item[0]


def _latin(names: Iterable[str], most_words: int = 1) -> Iterable[str]:
    for found in names:
        words = found.split()
        name = " ".join(words)
        if len(name) > 2 and name[0].isupper() and len(words) <= most_words and all(map(_is_latin, words)):
            yield name


def _is_latin(word: str) -> bool:
    letters = [letter for letter in word if letter not in "'’-"]
    return bool(letters) and all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
