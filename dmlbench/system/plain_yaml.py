"""A small part of YAML for files that may come from anybody: mappings of text, and null.

The parser's events are read, and nothing is constructed from them: tags, anchors, aliases and lists are refused, and every
scalar is text, whatever it looks like. The text `null` without quotes, `~` and an empty value are None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

Mapping = dict[str, Any]  # of text to text, None or another mapping

MAX_DEPTH = 4
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = ("", "~", "null")


def parse_plain_yaml(text: str) -> Mapping:
    """Parse a mapping.

    Args:
        text: YAML text.

    Raises:
        ValueError: It is no YAML, or more than mappings of text. The message is a clause.
    """
    try:
        events = _content(text)
        found = _value(next(events), events, 1)
        if not isinstance(found, dict):
            raise ValueError("it is not a YAML mapping")
        if next(events, None) is not None:
            raise ValueError("it has more than one YAML document")
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"it is not YAML{f' (line {mark.line + 1})' if mark is not None else ''}") from None
    except StopIteration:
        raise ValueError("it is empty") from None
    return found


def plain_yaml(values: Mapping) -> str:
    """Return the YAML text of a mapping, which `parse_plain_yaml` reads.

    Args:
        values: Text to text, None or another mapping.
    """
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000)


def _content(text: str) -> Iterator[yaml.Event]:
    """Yield the events that carry content, and refuse what is more than plain."""
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("it has a YAML anchor or alias, which is not read")
        if getattr(event, "tag", None) is not None or getattr(event, "tags", None):
            raise ValueError("it has a YAML tag, which is not read")
        if isinstance(event, yaml.SequenceStartEvent):
            raise ValueError("it has a YAML list, which is not read")
        if isinstance(event, yaml.ScalarEvent | yaml.MappingStartEvent | yaml.MappingEndEvent):
            yield event


def _value(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Any:
    """Return the value that begins with an event."""
    if isinstance(event, yaml.ScalarEvent):
        return None if event.implicit[0] and event.value in _NULL else event.value  # without quotes
    if depth > MAX_DEPTH:
        raise ValueError("its mappings are nested too deeply")
    found: Mapping = {}
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        if not isinstance(key, yaml.ScalarEvent):
            raise ValueError("a key is not text")
        if key.value in found:
            raise ValueError(f"it has the key {key.value[:80]!r} twice")
        found[key.value] = _value(next(events), events, depth + 1)
    return found
