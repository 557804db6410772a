# SPDX-License-Identifier: Apache-2.0
"""tools/demo: protected calls through the real programs in network namespaces, judged from captures and recordings. See README.md
beside this file."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import netns  # noqa: E402
import report  # noqa: E402
import speech  # noqa: E402
from baresip import BaresipError  # noqa: E402
from handover import HandoverDemo  # noqa: E402
from policy import PolicyDemo  # noqa: E402
from process import ProcessError  # noqa: E402
from programs import CtlError, NotBuilt  # noqa: E402
from scene import STATE, Demo, DemoError  # noqa: E402

SCENARIOS = {"call": Demo, "policy": PolicyDemo, "handover": HandoverDemo}


def alive(pid):
    try:
        return b"demo" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end_leftover(prefix, say):
    """Removes what an earlier run left (killed, or --keep). A demo that is running now is left alone."""
    state = json.loads(STATE.read_text()) if STATE.exists() and prefix == "tandem" else {}
    if state.get("pid") and state["pid"] != os.getpid() and alive(state["pid"]):
        raise DemoError(f"another tools/demo is running (pid {state['pid']}); wait for it, or end it with `kill {state['pid']}`")
    ours = [f"{prefix}-{end}" for end in ("ue", "ue2", "gw", "core")]
    left = [n for n in netns.namespaces() if n in ours]
    if left:
        say(f"ending what an earlier demo left: {' '.join(left)}")
    for name in left:
        netns.delete(name)
    if left:
        Path(f"/dev/shm/tandem-{prefix}-gw.stats").unlink(missing_ok=True)
    if state.get("cgroup") and Path(state["cgroup"]).name.startswith("tandem-test-") and os.path.isdir(state["cgroup"]):
        os.rmdir(state["cgroup"])  # its programs were in the namespaces
    if state.get("dir") and state["dir"].startswith(tempfile.gettempdir()):
        shutil.rmtree(state["dir"], ignore_errors=True)
    if prefix == "tandem":
        STATE.unlink(missing_ok=True)
    return bool(left)


def run(options, view):
    end_leftover(options.prefix, view.step)
    demo = SCENARIOS[options.scenario](options, view)
    keep_files = True
    try:
        demo.build_up()
        demo.play()
        view.step("judging captures and recordings")
        result = demo.judge(demo.stop_captures())
        if options.json:
            Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
        demo.show(result)
        keep_files = not result["passed"]
        if options.keep:
            demo.keep_running()
            view.around(demo)
        return 0 if result["passed"] else 1
    finally:
        demo.end()
        if not demo.kept:
            if keep_files:
                view.step(f"logs, configurations, captures and recordings are in {demo.dir}")
            else:
                shutil.rmtree(demo.dir, ignore_errors=True)


def main():
    p = argparse.ArgumentParser(prog="tools/demo", description="A protected call through Tandem, judged from the wire.")
    p.add_argument("--scenario", choices=list(SCENARIOS), default="call",
                   help="call: two calls, re-keyed (default); policy: five calls of the same two under five rules; "
                   "handover: a call, downloads and an echo while a device's networks come and go")
    p.add_argument("--seconds", type=int, help="of each call (handover: of the whole): " + "; ".join(
        f"{name}: at least {of.shortest_s} (default {of.seconds})" for name, of in SCENARIOS.items()))
    p.add_argument("--keep", action="store_true", help="leave everything running, with a call, and say how to look around")
    p.add_argument("--end", action="store_true", help="end what --keep left running")
    p.add_argument("--json", metavar="FILE", help="write the result there")
    p.add_argument("--prefix", default="tandem", help=argparse.SUPPRESS)
    options = p.parse_args()
    chosen = SCENARIOS[options.scenario]
    options.seconds = options.seconds or chosen.seconds
    if options.seconds < chosen.shortest_s:
        p.error(f"--seconds {options.seconds}: it takes {chosen.shortest_s} s or more for all of it to be seen")
    if os.geteuid() != 0:
        print("demo: needs root for network namespaces and XDP", file=sys.stderr)
        return 1
    view = report.View(sys.stdout.isatty() and os.environ.get("CI") != "true" and os.environ.get("TERM") != "dumb")

    def ended(number, _):
        raise DemoError(f"ended by signal {number}")

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    try:
        if options.end:
            print("ended" if end_leftover(options.prefix, view.step) else "nothing is running")
            return 0
        return run(options, view)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything was ended", file=sys.stderr)
        return 130
    except (DemoError, BaresipError, ProcessError, NotBuilt, CtlError, netns.NetError, speech.SpeechError, OSError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
