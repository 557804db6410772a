# SPDX-License-Identifier: Apache-2.0
"""Man pages and shell completion from what the programs' own --help says: `python3 tools/dev/manual.py` writes them under packaging/ (needs
build/); tests/system/manual.py fails where they differ. Nothing in them is written by hand but SECTIONS."""

import os
import re
import subprocess
from pathlib import Path

import config_pages

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("TANDEM_BUILD", ROOT / "build"))
PROGRAMS = {"tandemctl": "tools/tandemctl", "tandem-agent": "tools/agent", "tandem-controlplane": "controlplane/app",
            "tandem-dataplane": "dataplane/app", "tandem-holder": "dataplane/app"}
SECTIONS = {  # what no --help says
    "tandemctl": {"FILES": "/run/tandem/controlplane.sock: the ops socket. /dev/shm: the data plane's counters."},
    "tandem-agent": {"FILES": "/etc/tandem/agent.toml"},
    "tandem-controlplane": {"FILES": "/etc/tandem/controlplane.toml, /etc/tandem/levels.toml", "SIGNALS": "HUP: reads levels and the list of revoked certificates again."},
    "tandem-dataplane": {"FILES": "/etc/tandem/dataplane.toml"},
    "tandem-holder": {"SIGNALS": "HUP: hands the flows over to another data plane, of this program as it is installed now. TERM: ends the data planes in order."},
}


class Verb:
    """One program or verb as its --help tells it."""

    def __init__(self, program, words=()):
        out = subprocess.run([BUILD / PROGRAMS[program] / program, *words, "--help"], capture_output=True, text=True, timeout=20, check=True).stdout
        self.words, self.text, self.usage, self.footer = words, "", "", ""
        self.lists = {"Positionals": [], "Options": [], "Subcommands": []}
        at = None
        for line in out.splitlines():
            if line.rstrip(":") in self.lists:
                at = self.lists[line.rstrip(":")]
            elif line.startswith("Usage:"):
                self.usage = re.sub(r"\S*/", "", line[6:].strip(), count=1).removeprefix(program).strip()
                self.usage = self.usage.removeprefix(" ".join(words)).strip()
            elif m := re.match(r"  (\S.*?)(?:  +|$)(.*)", line) if at is not None else None:
                at.append([m[1], m[2]])
            elif at and line.startswith("   "):
                at[-1][1] = f"{at[-1][1]} {line.strip()}".strip()
            elif line.strip() and at is None:
                self.text += line.strip()
            elif line.strip():
                self.footer, at = line.strip(), at
        self.verbs = [Verb(program, (*words, name)) for name, _ in self.lists["Subcommands"]]

    def flags(self):
        return [f for name, _ in self.lists["Options"] for f in name.split()[0].split("=")[0].split(",") if f.startswith("-")]

    def every(self):
        yield self
        for verb in self.verbs:
            yield from verb.every()


def roff(text):
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\n.", "\n\\&.")


def rows(pairs):
    return "".join(f".TP\n.B {roff(name)}\n{roff(text) or '.'}\n" for name, text in pairs)


def man(program, top):
    out = [f'.\\" Made by tools/dev/manual.py from {program} \\-\\-help.\n.TH {program.upper()} 8 "" Tandem\n.SH NAME\n',
           f"{roff(program)} \\- {roff(top.text.removeprefix(program + ': '))}\n.SH SYNOPSIS\n.B {roff(program)}\n{roff(top.usage)}\n",
           ".SH OPTIONS\n", rows(top.lists["Options"])]
    if top.verbs:
        out.append(".SH VERBS\n")
    for verb in top.every():
        if verb is not top and not verb.verbs:
            out.append(f".SS {roff(' '.join(verb.words))} {roff(verb.usage.replace('[OPTIONS]', '').strip())}\n{roff(verb.text)}\n")
            out.append(rows(verb.lists["Positionals"] + [o for o in verb.lists["Options"] if not o[0].startswith("-h")]))
    for name, text in SECTIONS[program].items():
        out.append(f".SH {name}\n{roff(text)}\n")
    if top.footer.startswith("exit status: "):
        out.append(f".SH EXIT STATUS\n{roff(top.footer.removeprefix('exit status: '))}\n")
    return "".join(out)


def bash(program, top):
    cases = "".join(f"    '{' '.join(v.words)}') words='{' '.join([n for n, _ in v.lists['Subcommands']] + v.flags())}' ;;\n"
                    for v in top.every() if v.words)
    function = f"_{program.replace('-', '_')}"
    return f"""# Made by tools/dev/manual.py from {program} --help.
{function}() {{
    local path='' words word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        [[ $word == -* ]] || path="${{path:+$path }}$word"
    done
    case "$path" in
{cases}    *) words='{' '.join([n for n, _ in top.lists['Subcommands']] + top.flags())}'; [[ -z $path ]] || words='' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -o default -F {function} {program}
"""


def zsh(program):
    return f"""#compdef {program}
# Made by tools/dev/manual.py: zsh reads bash's completion.
autoload -U +X bashcompinit && bashcompinit
source /usr/share/bash-completion/completions/{program}
"""


def files():
    """path -> text, of all."""
    out = {}
    for program in PROGRAMS:
        top = Verb(program)
        out[f"packaging/man/{program}.8"] = man(program, top)
        if top.verbs:
            out[f"packaging/completion/{program}"] = bash(program, top)
            out[f"packaging/completion/_{program}"] = zsh(program)
    return out | config_pages.pages(lambda program: BUILD / PROGRAMS[program] / program, roff)


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text)
