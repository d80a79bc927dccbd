"""JSON and YAML, wherever either is read: data, settings, what a run left on disk.

Both libraries take more than a file may say, or fail in their own ways: a key stated twice loses
its first value, deep nesting ends in RecursionError, a number of thousands of digits in
ValueError. Here each is one line with the place.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from lmsl.data.formats.source import read_bytes, read_text, within_limits
from lmsl.errors import InputError
from lmsl.wording import one_line, quoted, shortened

_DIGITS = 300
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, place: str, expected: str = "JSON") -> Any:
    """The value of a JSON text.

    Raises:
        InputError: `place` and what is wrong: not JSON, a key stated twice, nested too deeply, a
            number without end or half a character (JSON can spell one, which no file can hold).
    """
    with within_limits(place):
        try:
            value = _decode(text)
            if _HALF.search(text):
                json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise InputError(f"{place}: expected text, got {half}, half of a character") from None
        except json.JSONDecodeError as error:
            line = f"{place}:{error.lineno}" if "\n" in text else place
            raise InputError(f"{line}: expected {expected} ({error.msg})") from None
        except ValueError as error:
            raise InputError(f"{place}: expected {expected} ({error})") from None
    return value


def read_json_file(path: str | Path) -> Any:
    """The value of a file of JSON; InputError names the file (and line)."""
    return parse_json(read_text(path), str(path))


def read_object(path: str | Path) -> dict[str, Any]:
    """The same for a file of one JSON object."""
    value = read_json_file(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {quoted(value)}")
    return value


def read_yaml(path: str | Path, flag: str = "") -> Any:
    """The value of a YAML file; InputError names `flag` and file."""
    place = f"{flag} {path}".strip()
    if not Path(path).exists():
        raise InputError(f"{place}: cannot be read (No such file or directory)")
    with within_limits(place):
        try:
            return yaml.load(read_bytes(path).decode("utf-8-sig"), Loader=_Loader)
        except InputError as error:
            raise InputError(f"{flag} {error}".strip()) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{place}: expected YAML, got: {one_line(error)[:240]}") from None
        except ValueError as error:
            raise InputError(f"{place}: expected YAML ({shortened(str(error))})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {quoted(twice)} is there twice; remove one")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; at most {_DIGITS} are read")
    return int(digits)


_decode = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole).decode


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key stated twice and endless numbers."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise ValueError(f"the key {quoted(key.value)} is there twice; remove one")
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _DIGITS:
            raise ValueError(f"a number of {len(node.value)} digits; at most {_DIGITS} are read")
        number: int = super().construct_yaml_int(node)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
