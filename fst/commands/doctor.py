"""`fst doctor`: what is installed, found and missing."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from fst.commands.arguments import Parser, print_json

_MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]--[/]", "broken": "[red]!![/]"}


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst doctor`."""
    made = Parser("fst doctor", "Say what is installed, found and missing, and the command that mends it.")
    made.add_argument("--json", action="store_true", help="print as JSON")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst doctor`: exit code 1 where something is broken."""
    a = parser().parse_args(argv)
    from fst import doctor

    findings = []
    if a.json:
        findings = list(doctor.examine())
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(soft_wrap=True, highlight=False)
        for finding in doctor.examine():
            findings.append(finding)
            console.print(f"{_MARKS[finding.status]} {finding.topic:15} {escape(finding.what)}")
            if finding.remedy:
                console.print(f"{'':18} -> {escape(finding.remedy)}")
    return 0 if doctor.is_healthy(findings) else 1
