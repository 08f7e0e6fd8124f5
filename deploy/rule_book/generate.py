"""Writes docs/reference/rules.md from the rule data: `python -m deploy.rule_book.generate`."""

from pathlib import Path

from deploy.rule_book.page import rule_book

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rules.md"


def main() -> None:
    """Write the page where it differs, and say so."""
    text = rule_book()
    if PAGE.exists() and PAGE.read_text("utf-8") == text:
        print("docs/reference/rules.md is up to date")
        return
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, "utf-8")
    print("wrote docs/reference/rules.md")


if __name__ == "__main__":
    main()
