"""``lmsl report``, ``lmsl data`` and ``lmsl probe``: commands that look at what is there."""

import json

from lmsl.cli.data import check_files, convert_file
from lmsl.cli.flags import Data, Probe, Report
from lmsl.cli.parse import parse
from lmsl.cli.probe import probed
from lmsl.data.dependency import Trees
from lmsl.data.formats.options import ReadOptions, read_options
from lmsl.data.trees import trees_of
from lmsl.errors import InputError


def report_command(arguments: list[str]) -> int:
    options: Report = parse(Report, arguments, "report")
    from lmsl.report.write import write_report

    console = options.console()
    with console.working(f"reporting on {options.folder}"):
        lines = list(write_report(options.folder, options.output, options.png, console.say))
    print("\n".join(lines))
    return 0


def data_command(arguments: list[str]) -> int:
    options: Data = parse(Data, arguments, "data")
    console = options.console()
    reading = read_options(options, options.words)
    _check_action(options)
    trees = _trees(options, reading)
    if options.action == "convert":
        convert_file(options.files, options.output, options.to or "json", reading, console.say)
        return 0
    with console.working("reading"):
        report, clean = check_files(
            options.files, reading, options.tokenizer, trees, as_json=options.json
        )
    print(report)
    return 0 if clean or options.action == "describe" else 1


def _check_action(options: Data) -> None:
    """Refuse flags that the action has no use for."""
    converting = options.action == "convert"
    for flag, value, of_convert in (
        ("--to", options.to, True),
        ("--output", options.output, True),
        ("--tokenizer", options.tokenizer, False),
    ):
        if value is not None and of_convert != converting:
            fitting = "data convert" if of_convert else "data check or data describe"
            raise InputError(f"{flag} {value}: expected {fitting}, got data {options.action}")


def _trees(options: Data, reading: ReadOptions) -> Trees | None:
    """Who gives dependency trees, where they are asked for."""
    if options.parser is not None and not options.right_dependency:
        raise InputError(f"--parser {options.parser}: expected --right-dependency beside it")
    if options.json and (
        options.right_dependency or options.tokenizer or options.action == "convert"
    ):
        raise InputError("--json: expected data check or data describe, without other reports")
    if not options.right_dependency:
        return None
    if options.action == "convert":
        raise InputError("--right-dependency: expected data describe or data check, got convert")
    return trees_of(options.parser, reading)


def probe_command(arguments: list[str]) -> int:
    options: Probe = parse(Probe, arguments, "probe")
    asked = (options.model, options.unmask, options.data, options.save, options.device)
    with options.console().working(f"probing {options.model}"):
        found = probed(*asked, allow_changed_base=options.allow_changed_base)
    print(json.dumps(found.to_json(), indent=2) if options.json else "\n".join(found.lines()))
    return 0
