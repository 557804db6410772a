# SPDX-License-Identifier: Apache-2.0
"""A script in the data plane's place, for tests of the holder alone: it speaks dataplane/app/holder_words.hpp and logs what it does,
"TIME PID WHAT" a line. It forwards at once when told to, unless its mode says otherwise."""

# mode, first letters of what a process that is not the first one does: dies | hangs (when told to take over) | refuses (exit 3) |
# layout (it knows another one: exit 75 with a memory of the others). The file is read at each start: a test changes it meanwhile.
SCRIPT = r"""#!/bin/bash
log=%(log)s mode=$(cat %(mode)s) fd= state=
while [ $# -gt 0 ]; do case $1 in --holder-fd) fd=$2; shift ;; --state-fd) state=$2; shift ;; esac; shift; done
note() { echo "$EPOCHREALTIME $$ $*" >>$log; }
first() { ! grep -q forwards $log 2>/dev/null; }
note starts
if ! first; then
    case $mode in
        dies) kill -9 $$ ;;
        refuses) exit 3 ;;
    esac
fi
[ $mode = layout ] && layout=2 || layout=1
[ -s /proc/$$/fd/$state ] || echo $layout >/proc/$$/fd/$state
[ $(cat /proc/$$/fd/$state) = $layout ] || exit 75
trap 'note ends; exit 0' TERM
now=w
echo -n w >&$fd
note waits
while true; do
    echo -n $now >&$fd
    word= ; read -r -N 1 -t 0.2 word <&$fd
    [ $? -le 128 ] || [ -n "$word" ] || continue
    case $word in
        g) note told; echo -n t >&$fd
           if ! first && [ $mode = hangs ]; then sleep 60; fi
           note forwards; now=f ;;
        l) note leaves; exit 0 ;;
        a) ;; # it has no AF_XDP sockets
        *) [ $now = w ] && [ -z "$word" ] && continue; note orphaned; exit 0 ;;
    esac
done
"""


class Fake:
    def __init__(self, directory, name, mode="works"):
        directory.mkdir(parents=True, exist_ok=True)
        self.script, self.log, self._mode = (directory / f"{name}.{end}" for end in ("sh", "log", "mode"))
        self.mode(mode)
        self.script.write_text(SCRIPT % {"log": self.log, "mode": self._mode})
        self.script.chmod(0o755)

    def mode(self, mode):
        self._mode.write_text(mode)

    def lines(self, *what):
        """[(time, pid, what)], all or those of some kinds."""
        words = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [(float(t), int(pid), did) for t, pid, did in words if not what or did in what]

    def pids(self, what):
        return [pid for _, pid, _ in self.lines(what)]
