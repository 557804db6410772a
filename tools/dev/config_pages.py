# SPDX-License-Identifier: Apache-2.0
"""The (5) pages of the configuration files: keys as the programs know them (each says "known here: ..." of a key that it does not), their
meaning from config_keys.toml; a key that one of the two does not have is an error. Used by manual.py."""

import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ADDRESS = '[[address]]\nname = "a"\nip = "192.0.2.1"\n'
PORT = '[[port]]\ninterface = "e"\n'
TUNNEL = '[tunnel]\nlisten = ["192.0.2.1:4433"]\ninner4 = "10.64.0.0/16"\n'
# What must stand before a table so that the program reads it, where that is not nothing.
BEFORE = {("dataplane.toml", "port"): ADDRESS, ("dataplane.toml", "edge"): ADDRESS + PORT,
          **{("controlplane.toml", t): TUNNEL for t in ("ng", "media", "store", "sip", "policy")}}
LEVEL = '[levels.standard]\nsuite = "AEAD_AES_128_GCM"\nseed_bytes = 16\nrekey_s = 60\n'


class Wrong(Exception):
    pass


def _known(program, file, table):
    """The keys that the program knows in that table, in its order."""
    header = {"address": "[[address]]", "port": "[[port]]", "path": "[[path]]", "forward": "[[forward]]", "levels.NAME": "[levels.standard]"}.get(table, f"[{table}]" if table else "")
    own = f"{header}\nnot_a_key = 1\n"
    with tempfile.TemporaryDirectory() as at:
        path = Path(at) / "x.toml"
        if file == "levels.toml":
            levels = Path(at) / "levels.toml"
            levels.write_text("version = 1\n" + (own if not table else (LEVEL if table != "levels.NAME" else "") + own))
            path.write_text(f'version = 1\nlevels = "{levels}"\n{TUNNEL}')
        else:
            path.write_text("version = 1\n" + (BEFORE.get((file, table), "") + own))
        said = subprocess.run([program, "--config", path, "--check"], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"not_a_key.*known(?: here: | are )(.*)", said.stdout + said.stderr)
    if not found:
        raise Wrong(f"{Path(program).name} does not say what is known in {file}, [{table}]: {said.stdout}{said.stderr}")
    return found[1].strip().split(", ")


def _table(file, name, keys, known, roff):
    if set(keys) != set(known):
        raise Wrong(f"tools/dev/config_keys.toml, {file} [{name}]: without a word are {sorted(set(known) - set(keys))}, "
                    f"not known to the program {sorted(set(keys) - set(known))}")
    title = f"[[{name}]]" if name in ("address", "port", "path", "forward") else f"[{name}]" if name else "top of the file"
    return f".SH {roff(title)}\n" + "".join(f".TP\n.B {roff(key)}\n{roff(keys[key])}\n" for key in known)


def pages(path_of, roff):
    """path -> text; path_of: a program's name -> its path."""
    out = {}
    for file, page in tomllib.loads((HERE / "config_keys.toml").read_text()).items():
        name = f"tandem-{file}"
        body = "".join(_table(file, table, keys, _known(path_of(page["of"]), file, table), roff) for table, keys in page["tables"].items())
        out[f"packaging/man/{name}.5"] = (
            f'.\\" Made by tools/dev/config_pages.py of tools/dev/config_keys.toml.\n.TH {name.upper()} 5 "" Tandem\n.SH NAME\n'
            f"{roff(name)} \\- {roff(page['text'].split(',')[0].lower())}\n.SH DESCRIPTION\n{roff(page['text'])}\n{body}"
            f".SH FILES\n/etc/tandem/{file}; an example is installed with the package.\n.SH SEE ALSO\n{roff(page['of'])}(8)\n")
    return out
