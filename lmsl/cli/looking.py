"""``lmsl report``, ``lmsl data`` and ``lmsl probe``: commands that look at what is there."""

from lmsl.cli.data import check_files, convert_file
from lmsl.cli.flags import Data, Probe, Report
from lmsl.cli.parse import parse
from lmsl.cli.probe import probe_lines
from lmsl.console import Console
from lmsl.data.formats.options import read_options


def report_command(arguments: list[str]) -> int:
    options: Report = parse(Report, arguments, "report")
    from lmsl.report.write import write_report

    console = Console()
    with console.working(f"reporting on {options.sweep}"):
        lines = list(write_report(options.sweep, options.output, options.png, console.say))
    print("\n".join(lines))
    return 0


def data_command(arguments: list[str]) -> int:
    options: Data = parse(Data, arguments, "data")
    reading = read_options(options, options.words)
    if options.action == "convert":
        convert_file(options.files, options.output, options.to, reading, Console().say)
        return 0
    with Console().working("reading"):
        report, clean = check_files(options.files, reading, options.tokenizer)
    print(report)
    return 0 if clean or options.action == "describe" else 1


def probe_command(arguments: list[str]) -> int:
    options: Probe = parse(Probe, arguments, "probe")
    asked = (options.model, options.unmask, options.data, options.save, options.device)
    with Console().working(f"probing {options.model}"):
        lines = list(probe_lines(*asked, allow_changed_base=options.allow_changed_base))
    print("\n".join(lines))
    return 0
