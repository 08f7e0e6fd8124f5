"""What the pages say, by language. One YAML file a language, the same keys in each (a test holds them together)."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parent / "wording"
LANGUAGES: Final = ("en", "es")


@cache
def load_wording(language: str) -> dict[str, str]:
    """Key to text of one language. KeyError when there is no such language."""
    if language not in LANGUAGES:
        raise KeyError(language)
    found: dict[str, str] = yaml.safe_load((FOLDER / f"{language}.yaml").read_text())
    return found


class Wording:
    """Says keys in one language. A key with `n` may have `.one` beside it; an unknown closed-list word says itself."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else "en"
        self._texts = load_wording(self.language)

    def __call__(self, key: str, **values: Any) -> str:
        """The text with its values in place. KeyError for a key that does not exist: a page never shows a raw key."""
        if values.get("n") == 1 and f"{key}.one" in self._texts:
            key = f"{key}.one"
        return self._texts[key].format(**values)

    def word(self, group: str, value: object) -> str:
        """A word of a closed list, such as `word("outcome", "referred")`; a word that is not known here as it is."""
        return self._texts.get(f"{group}.{value}", str(value).replace("-", " "))
